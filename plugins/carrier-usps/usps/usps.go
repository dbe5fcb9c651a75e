// Package usps is the United States Postal Service as a carrier, through version 3 of its web
// APIs.
//
// It owns how the canonical fields are said to the provider and read from it, and the record of
// what was asked of it; it refuses to know how a host decides about failures. Its invariant: a
// label, a pickup and a SCAN form are asked for only after the book on disk says so, and what
// was asked for once is never asked for under another key.
package usps

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// Version of the plugin.
const Version = "1.0.0"

// The settings.
const (
	setBase     = "base-url"
	setID       = "client-id"
	setSecret   = "client-secret"
	setCRID     = "crid"
	setMID      = "mid"
	setManifest = "manifest-mid"
	setAccount  = "account"
	setState    = "state"
	setPrices   = "prices"
	setPlace    = "pickup-place"
)

// production is where the provider is when nothing else is said.
const production = "https://apis.usps.com"

// accountType is that of the accounts that pay: those of the Enterprise Payment System.
const accountType = "EPS"

var settings = []sdk.Setting{
	{Name: setBase, Help: "where the provider is; " + production + " when empty, https://apis-tem.usps.com is its test system"},
	{Name: setID, Required: true, Help: "consumer key of the application at developers.usps.com"},
	{Name: setSecret, Required: true, Secret: true, Help: "consumer secret of the application"},
	{Name: setCRID, Required: true, Help: "Customer Registration ID of who ships and pays"},
	{Name: setMID, Required: true, Help: "Mailer ID, 6 or 9 digits, of who ships"},
	{Name: setManifest, Help: "Mailer ID of the manifests; that of mid when empty"},
	{Name: setAccount, Required: true, Help: "number of the account in the Enterprise Payment System that pays"},
	{Name: setState, Required: true, Help: "directory of the book of what was bought; of this plugin alone, and part of the site's backup"},
	{Name: setPrices, Help: "which prices are asked for: commercial (when empty), retail, or contract (those of the account)"},
	{Name: setPlace, Help: "where a driver finds the parcels of a pickup: front-door (when empty), back-door, side-door, knock-on-door, mail-room, office, porch, reception, mailbox"},
}

var pickupPlaces = []string{"front-door", "back-door", "side-door", "knock-on-door", "mail-room", "office", "porch", "reception", "mailbox"}

// services are the mail classes that a site sends with, and how their returns are called.
var services = []struct{ code, name, back string }{
	{"USPS_GROUND_ADVANTAGE", "USPS Ground Advantage", "USPS_GROUND_ADVANTAGE_RETURN_SERVICE"},
	{"PRIORITY_MAIL", "Priority Mail", "PRIORITY_MAIL_RETURN_SERVICE"},
	{express, "Priority Mail Express", "PRIORITY_MAIL_EXPRESS_RETURN_SERVICE"},
	{"MEDIA_MAIL", "Media Mail", ""},
	{"LIBRARY_MAIL", "Library Mail", ""},
}

// express is the mail class whose extra services have other codes.
const express = "PRIORITY_MAIL_EXPRESS"

// Carrier is one account.
type Carrier struct {
	log *slog.Logger
	now func() time.Time

	// Set by Configure and never changed after it.
	client  *client
	book    *record
	prices  string
	place   string
	account string
}

var _ carrier.Carrier = (*Carrier)(nil)

// New makes a carrier that is not configured yet.
func New(log *slog.Logger) *Carrier { return &Carrier{log: log, now: time.Now} }

// Describe tells what the carrier can do; it does not depend on the account.
func (c *Carrier) Describe(context.Context) (*carrier.Description, error) {
	d := &carrier.Description{Labels: []string{carrier.PDF, carrier.ZPL, carrier.PNG}}
	d.Name, d.Version, d.Config = "usps", Version, slices.Clone(settings)
	for _, s := range services {
		d.Services = append(d.Services, carrier.Service{Code: s.code, Name: s.name})
	}
	for _, name := range []string{carrier.OpValidateAddress, carrier.OpRate, carrier.OpShip, carrier.OpGetByReference, carrier.OpShipReturn,
		carrier.OpVoid, carrier.OpPickup, carrier.OpManifest, carrier.OpTrack} {
		buys := slices.Contains([]string{carrier.OpShip, carrier.OpShipReturn, carrier.OpVoid, carrier.OpPickup, carrier.OpManifest}, name)
		d.Operations = append(d.Operations, sdk.Operation{Name: name, Buys: buys})
	}
	return d, nil
}

var (
	digits   = regexp.MustCompile(`^\d{1,15}$`)
	mailerID = regexp.MustCompile(`^(\d{6}|\d{9})$`)
)

// Configure looks at the settings and opens the book. The provider is first asked when
// something is wanted of it.
func (c *Carrier) Configure(_ context.Context, s sdk.Settings) error {
	if c.client != nil {
		return sdk.Errorf(sdk.Conflict, "the plugin is configured already").Suggest("start it anew")
	}
	for name := range s {
		if !slices.ContainsFunc(settings, func(known sdk.Setting) bool { return known.Name == name }) {
			return sdk.Errorf(sdk.Validation, "there is no setting %.64q", name).At(name)
		}
	}
	for _, known := range settings {
		if known.Required && strings.TrimSpace(s[known.Name]) == "" {
			return sdk.Errorf(sdk.Validation, "the setting is missing").At(known.Name).Suggest("give the " + known.Help)
		}
	}
	base, err := baseURL(s[setBase])
	if err != nil {
		return sdk.Errorf(sdk.Validation, "%v", err).At(setBase)
	}
	a := account{clientID: s[setID], clientSecret: s[setSecret], crid: s[setCRID], mid: s[setMID], manifestMID: s[setManifest], number: s[setAccount]}
	if a.manifestMID == "" {
		a.manifestMID = a.mid
	}
	for _, look := range []struct {
		name, value string
		form        *regexp.Regexp
	}{{setCRID, a.crid, digits}, {setMID, a.mid, mailerID}, {setManifest, a.manifestMID, mailerID}, {setAccount, a.number, digits}} {
		if !look.form.MatchString(look.value) {
			return sdk.Errorf(sdk.Validation, "%.32q does not have the form %s", look.value, look.form).At(look.name)
		}
	}
	prices, err := choice(s, setPrices, "commercial", "retail", "contract")
	if err != nil {
		return err
	}
	place, err := choice(s, setPlace, pickupPlaces...)
	if err != nil {
		return err
	}
	book, err := openRecord(s[setState], c.now, c.log)
	if err != nil {
		return err
	}
	c.book, c.prices, c.account = book, strings.ToUpper(prices), a.number
	c.place = strings.ToUpper(strings.ReplaceAll(place, "-", "_"))
	c.client = newClient(base, a, c.now, c.log)
	return nil
}

func choice(s sdk.Settings, name string, choices ...string) (string, error) {
	if s[name] == "" {
		return choices[0], nil
	}
	if !slices.Contains(choices, s[name]) {
		return "", sdk.Errorf(sdk.Validation, "%.64q is none of %s", s[name], strings.Join(choices, ", ")).At(name)
	}
	return s[name], nil
}

// baseURL refuses a place to which secrets would travel in the clear.
func baseURL(text string) (string, error) {
	if text == "" {
		return production, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("it is no URL such as " + production)
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme != "https" && !(u.Scheme == "http" && ip != nil && ip.IsLoopback()) {
		return "", errors.New("it has to begin with https://")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// ready refuses a call that nobody waits for, or that comes before Configure.
func (c *Carrier) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return sdk.Errorf(sdk.Unavailable, "the call ended before anything was done: %v", err)
	}
	if c.client == nil {
		return sdk.Errorf(sdk.Conflict, "the plugin is not configured").Suggest("call Configure first")
	}
	return c.book.Usable()
}

// Close lets go of the book and of the connections.
func (c *Carrier) Close() error {
	if c.client == nil {
		return nil
	}
	c.client.close()
	return c.book.Close()
}
