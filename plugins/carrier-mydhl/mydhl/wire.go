package mydhl

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/shopspring/decimal"
)

// The provider's words, as they travel. Only what this plugin says or reads is named here.

// number is a decimal that JSON shows as a number, never by way of a float.
type number struct{ decimal.Decimal }

// maxDigits is how many the contract takes on each side of the point. A number of a few bytes
// could grow to gigabytes when it is written out.
const maxDigits = 18

var tooLarge = decimal.New(1, maxDigits)

func (n number) MarshalJSON() ([]byte, error) { return []byte(n.String()), nil }

func (n *number) UnmarshalJSON(text []byte) error {
	text = bytes.Trim(text, `"`)
	if len(text) > 64 {
		return fmt.Errorf("a number of %d digits", len(text))
	}
	d, err := decimal.NewFromString(string(text))
	if err != nil {
		return fmt.Errorf("%q is no number", text)
	}
	if d.Exponent() > maxDigits || d.Exponent() < -maxDigits || d.Abs().GreaterThanOrEqual(tooLarge) {
		return fmt.Errorf("%q is out of range", text)
	}
	n.Decimal = d
	return nil
}

// code is text that the provider sometimes writes as a number.
type code string

func (c *code) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		return json.Unmarshal(text, (*string)(c))
	}
	*c = code(text)
	return nil
}

type account struct {
	TypeCode string `json:"typeCode"`
	Number   string `json:"number"`
}

type place struct {
	PostalCode   string `json:"postalCode"` // empty where there are none, but always there
	CityName     string `json:"cityName"`
	CountryCode  string `json:"countryCode"`
	ProvinceCode string `json:"provinceCode,omitempty"`
	AddressLine1 string `json:"addressLine1,omitempty"`
	AddressLine2 string `json:"addressLine2,omitempty"`
	AddressLine3 string `json:"addressLine3,omitempty"`
}

type contact struct {
	Email       string `json:"email,omitempty"`
	Phone       string `json:"phone"`
	CompanyName string `json:"companyName"`
	FullName    string `json:"fullName"`
}

type registration struct {
	TypeCode          string `json:"typeCode"`
	Number            string `json:"number"`
	IssuerCountryCode string `json:"issuerCountryCode"`
}

type party struct {
	PostalAddress       place          `json:"postalAddress"`
	ContactInformation  contact        `json:"contactInformation"`
	RegistrationNumbers []registration `json:"registrationNumbers,omitempty"`
	TypeCode            string         `json:"typeCode,omitempty"`
}

type sizes struct {
	Length number `json:"length"`
	Width  number `json:"width"`
	Height number `json:"height"`
}

type reference struct {
	Value    string `json:"value"`
	TypeCode string `json:"typeCode,omitempty"`
}

type piece struct {
	TypeCode           string      `json:"typeCode,omitempty"`
	Weight             number      `json:"weight"`
	Dimensions         *sizes      `json:"dimensions,omitempty"`
	CustomerReferences []reference `json:"customerReferences,omitempty"` // of shipments only
	ReferenceNumber    int         `json:"referenceNumber,omitempty"`    // of shipments only
}

type extra struct {
	ServiceCode string  `json:"serviceCode"`
	Value       *number `json:"value,omitempty"`
	Currency    string  `json:"currency,omitempty"`
}

type amount struct {
	TypeCode string `json:"typeCode"`
	Value    number `json:"value"`
	Currency string `json:"currency"`
}

type rateRequest struct {
	CustomerDetails struct {
		ShipperDetails  place `json:"shipperDetails"`
		ReceiverDetails place `json:"receiverDetails"`
	} `json:"customerDetails"`
	Accounts            []account `json:"accounts"`
	ProductCode         string    `json:"productCode,omitempty"`
	ValueAddedServices  []extra   `json:"valueAddedServices,omitempty"`
	PlannedShipping     string    `json:"plannedShippingDateAndTime"`
	UnitOfMeasurement   string    `json:"unitOfMeasurement"`
	IsCustomsDeclarable bool      `json:"isCustomsDeclarable"`
	MonetaryAmount      []amount  `json:"monetaryAmount,omitempty"`
	NextBusinessDay     bool      `json:"nextBusinessDay"`
	Packages            []piece   `json:"packages"`
}

type rateAnswer struct {
	Products []product `json:"products"`
	Warnings []string  `json:"warnings"`
}

type product struct {
	ProductName string `json:"productName"`
	ProductCode string `json:"productCode"`
	Weight      struct {
		Volumetric        *number `json:"volumetric"`
		Provided          *number `json:"provided"`
		UnitOfMeasurement string  `json:"unitOfMeasurement"`
	} `json:"weight"`
	TotalPrice []struct {
		CurrencyType  string  `json:"currencyType"`
		PriceCurrency string  `json:"priceCurrency"`
		Price         *number `json:"price"`
	} `json:"totalPrice"`
	TotalPriceBreakdown []struct {
		CurrencyType   string `json:"currencyType"`
		PriceBreakdown []struct {
			TypeCode string  `json:"typeCode"`
			Price    *number `json:"price"`
		} `json:"priceBreakdown"`
	} `json:"totalPriceBreakdown"`
	DetailedPriceBreakdown []struct {
		CurrencyType string `json:"currencyType"`
		Breakdown    []struct {
			Name        string  `json:"name"`
			ServiceCode string  `json:"serviceCode"`
			Price       *number `json:"price"`
		} `json:"breakdown"`
	} `json:"detailedPriceBreakdown"`
	DeliveryCapabilities struct {
		EstimatedDelivery string  `json:"estimatedDeliveryDateAndTime"`
		TotalTransitDays  *number `json:"totalTransitDays"`
	} `json:"deliveryCapabilities"`
}

type imageOption struct {
	TypeCode    string `json:"typeCode"`
	IsRequested bool   `json:"isRequested"`
	InvoiceType string `json:"invoiceType,omitempty"`
}

type outputImage struct {
	PrinterDPI     int           `json:"printerDPI,omitempty"`
	EncodingFormat string        `json:"encodingFormat"`
	ImageOptions   []imageOption `json:"imageOptions,omitempty"`
	Split          bool          `json:"splitTransportAndWaybillDocLabels"`
}

type shipmentRequest struct {
	PlannedShipping string `json:"plannedShippingDateAndTime"`
	Pickup          struct {
		IsRequested bool `json:"isRequested"`
	} `json:"pickup"`
	ProductCode           string      `json:"productCode"`
	GetRateEstimates      bool        `json:"getRateEstimates"`
	Accounts              []account   `json:"accounts"`
	ValueAddedServices    []extra     `json:"valueAddedServices,omitempty"`
	OutputImageProperties outputImage `json:"outputImageProperties"`
	CustomerReferences    []reference `json:"customerReferences"`
	CustomerDetails       struct {
		ShipperDetails  party  `json:"shipperDetails"`
		ReceiverDetails party  `json:"receiverDetails"`
		BuyerDetails    *party `json:"buyerDetails,omitempty"`
	} `json:"customerDetails"`
	Content              content           `json:"content"`
	OnDemandDelivery     *onDemand         `json:"onDemandDelivery,omitempty"`
	ShipmentNotification []notification    `json:"shipmentNotification,omitempty"`
	GetAdditional        []additionalAsked `json:"getAdditionalInformation,omitempty"`
}

type additionalAsked struct {
	TypeCode    string `json:"typeCode"`
	IsRequested bool   `json:"isRequested"`
}

type notification struct {
	TypeCode   string `json:"typeCode"`
	ReceiverID string `json:"receiverId"`
}

type onDemand struct {
	DeliveryOption string `json:"deliveryOption"`
	ServicePointID string `json:"servicePointId"`
}

type content struct {
	Packages              []piece            `json:"packages"`
	IsCustomsDeclarable   bool               `json:"isCustomsDeclarable"`
	DeclaredValue         *number            `json:"declaredValue,omitempty"`
	DeclaredValueCurrency string             `json:"declaredValueCurrency,omitempty"`
	ExportDeclaration     *exportDeclaration `json:"exportDeclaration,omitempty"`
	Description           string             `json:"description"`
	Incoterm              string             `json:"incoterm"`
	UnitOfMeasurement     string             `json:"unitOfMeasurement"`
}

type exportDeclaration struct {
	LineItems        []lineItem `json:"lineItems"`
	Invoice          *invoice   `json:"invoice,omitempty"`
	ExportReasonType string     `json:"exportReasonType,omitempty"`
	ShipmentType     string     `json:"shipmentType,omitempty"`
}

type invoice struct {
	Number        string `json:"number"`
	Date          string `json:"date"`
	SignatureName string `json:"signatureName,omitempty"`
}

type lineItem struct {
	Number      int    `json:"number"`
	Description string `json:"description"`
	Price       number `json:"price"`
	Quantity    struct {
		Value             number `json:"value"`
		UnitOfMeasurement string `json:"unitOfMeasurement"`
	} `json:"quantity"`
	CommodityCodes      []reference `json:"commodityCodes,omitempty"`
	ExportReasonType    string      `json:"exportReasonType,omitempty"`
	ManufacturerCountry string      `json:"manufacturerCountry"`
	Weight              struct {
		NetValue number `json:"netValue"`
	} `json:"weight"`
}

type shipmentAnswer struct {
	ShipmentTrackingNumber string `json:"shipmentTrackingNumber"`
	Packages               []struct {
		ReferenceNumber *number `json:"referenceNumber"`
		TrackingNumber  string  `json:"trackingNumber"`
	} `json:"packages"`
	Documents       []image `json:"documents"`
	ShipmentCharges []struct {
		CurrencyType     string  `json:"currencyType"`
		PriceCurrency    string  `json:"priceCurrency"`
		Price            *number `json:"price"`
		ServiceBreakdown []struct {
			Name     string  `json:"name"`
			Price    *number `json:"price"`
			TypeCode string  `json:"typeCode"`
		} `json:"serviceBreakdown"`
	} `json:"shipmentCharges"`
	Warnings []string `json:"warnings"`
}

type image struct {
	ImageFormat            string  `json:"imageFormat"`
	EncodingFormat         string  `json:"encodingFormat"` // where images are fetched it is called so
	Content                []byte  `json:"content"`
	TypeCode               string  `json:"typeCode"`
	PackageReferenceNumber *number `json:"packageReferenceNumber"`
}

type imageAnswer struct {
	Documents []image `json:"documents"`
}

type pickupRequest struct {
	Confirmation        string        `json:"dispatchConfirmationNumber,omitempty"`   // of a change
	OriginalAccount     string        `json:"originalShipperAccountNumber,omitempty"` // of a change
	PlannedPickup       string        `json:"plannedPickupDateAndTime"`
	CloseTime           string        `json:"closeTime"`
	LocationType        string        `json:"locationType"`
	Accounts            []account     `json:"accounts"`
	SpecialInstructions []instruction `json:"specialInstructions,omitempty"`
	CustomerDetails     struct {
		ShipperDetails party `json:"shipperDetails"`
	} `json:"customerDetails"`
	ShipmentDetails []collected `json:"shipmentDetails"`
}

type instruction struct {
	Value string `json:"value"`
}

type collected struct {
	ProductCode            string  `json:"productCode"`
	IsCustomsDeclarable    bool    `json:"isCustomsDeclarable"`
	UnitOfMeasurement      string  `json:"unitOfMeasurement"`
	ShipmentTrackingNumber string  `json:"shipmentTrackingNumber,omitempty"`
	Packages               []piece `json:"packages"`
}

type pickupAnswer struct {
	Numbers        []string `json:"dispatchConfirmationNumbers"`
	Number         string   `json:"dispatchConfirmationNumber"` // of a change
	ReadyByTime    string   `json:"readyByTime"`
	NextPickupDate string   `json:"nextPickupDate"`
	Warnings       []string `json:"warnings"`
}

type addressAnswer struct {
	Warnings []string `json:"warnings"`
	Address  []struct {
		CountryCode string `json:"countryCode"`
		PostalCode  string `json:"postalCode"`
		CityName    string `json:"cityName"`
		CountyName  string `json:"countyName"`
	} `json:"address"`
}

type trackingAnswer struct {
	Shipments []trackedShipment `json:"shipments"`
}

type trackedShipment struct {
	ShipmentTrackingNumber string         `json:"shipmentTrackingNumber"`
	ProductCode            string         `json:"productCode"`
	ShipperReferences      []reference    `json:"shipperReferences"`
	Events                 []trackedEvent `json:"events"`
	Pieces                 []trackedPiece `json:"pieces"`
	EstimatedDeliveryDate  string         `json:"estimatedDeliveryDate"`
}

type trackedPiece struct {
	Number         *number        `json:"number"`
	TrackingNumber string         `json:"trackingNumber"`
	Events         []trackedEvent `json:"events"`
}

type trackedEvent struct {
	Date        string `json:"date"`
	Time        string `json:"time"`
	GMTOffset   string `json:"GMTOffset"`
	TypeCode    string `json:"typeCode"`
	Description string `json:"description"`
	ServiceArea []struct {
		Description string `json:"description"`
	} `json:"serviceArea"`
}

// problem is the body of every error.
type problem struct {
	Detail            string   `json:"detail"`
	Title             string   `json:"title"`
	Message           string   `json:"message"`
	AdditionalDetails []string `json:"additionalDetails"`
	Status            code     `json:"status"`
}
