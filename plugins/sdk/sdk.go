// Package sdk is what all plugins share: the coded error, money, measures and places, and how
// a plugin is served to its host.
//
// It owns the words that a carrier and a tax engine have in common, and refuses to know either.
// Its invariant: an amount is a decimal with a currency, never a float, and a failure says its
// class.
package sdk

// Address is a place with the people there.
type Address struct {
	Name        string   `json:"name,omitempty"`
	Company     string   `json:"company,omitempty"`
	Lines       []string `json:"lines,omitempty"` // street and number first; at most 3
	City        string   `json:"city,omitempty"`
	State       string   `json:"state,omitempty"` // the second part of ISO 3166-2, such as CA of US-CA; empty where there is none
	PostalCode  string   `json:"postalCode,omitempty"`
	Country     string   `json:"country,omitempty"` // ISO 3166-1 alpha-2
	Phone       string   `json:"phone,omitempty"`
	Email       string   `json:"email,omitempty"`
	Residential bool     `json:"residential,omitempty"`
	GLN         string   `json:"gln,omitempty"`    // GS1 Global Location Number
	TaxIDs      []TaxID  `json:"taxIds,omitempty"` // of who is there
}

// TaxID is a number that a tax authority knows somebody by.
type TaxID struct {
	Country string `json:"country"`        // ISO 3166-1 alpha-2 of the authority; XI for Northern Ireland
	Kind    string `json:"kind,omitempty"` // such as vat, gst, eori
	Number  string `json:"number"`
}

// Description is what every plugin says of itself.
type Description struct {
	Name    string `json:"name"`           // as in policy: zone, usps, table
	Version string `json:"version"`        // of the plugin
	Data    string `json:"data,omitempty"` // version of the tables or rules that it holds; empty: none

	Operations []Operation `json:"operations,omitempty"`
	Config     []Setting   `json:"config,omitempty"` // that Configure knows
}

// Operation is one thing that a plugin can do.
type Operation struct {
	Name    string `json:"name"`    // rate, ship, ...
	Offline bool   `json:"offline"` // without the provider
	Buys    bool   `json:"buys"`    // what is done costs money or leaves a mark at the provider, so that doing it twice is a fault
}

// Setting is one key of a plugin's configuration.
type Setting struct {
	Name     string `json:"name"`
	Help     string `json:"help"`
	Required bool   `json:"required,omitempty"`
	Secret   bool   `json:"secret,omitempty"` // comes from a secret reference, never from policy
}

// Settings are what a plugin is configured with before anything else is asked of it: the
// keys of policy, and secrets that the agent has resolved.
type Settings map[string]string
