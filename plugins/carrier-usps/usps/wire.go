package usps

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/shopspring/decimal"
)

// maxDigits bounds a number of an answer: a huge exponent would fill the memory when it is
// added to another.
const maxDigits = 32

// number is a JSON number that stays decimal both ways.
type number struct{ decimal.Decimal }

// MarshalJSON writes the digits as they are, without quotes.
func (n number) MarshalJSON() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalJSON reads the digits as they stand there. Quotes are taken too.
func (n *number) UnmarshalJSON(text []byte) error {
	text = bytes.Trim(text, `"`)
	if string(text) == "null" {
		return nil
	}
	if len(text) > maxDigits || bytes.ContainsAny(text, "eE") {
		return fmt.Errorf("%.40q is no number of at most %d digits", text, maxDigits)
	}
	d, err := decimal.NewFromString(string(text))
	n.Decimal = d
	return err
}

func numberOf(d decimal.Decimal) *number { return &number{d} }

// The API's bodies, as far as they are used. What is not named here is ignored in answers.

type address struct {
	StreetAddress    string `json:"streetAddress,omitempty"`
	SecondaryAddress string `json:"secondaryAddress,omitempty"`
	City             string `json:"city,omitempty"`
	State            string `json:"state,omitempty"`
	ZIPCode          string `json:"ZIPCode,omitempty"`
	ZIPPlus4         string `json:"ZIPPlus4,omitempty"`
	Urbanization     string `json:"urbanization,omitempty"`
}

type addressee struct {
	FirstName string `json:"firstName,omitempty"`
	LastName  string `json:"lastName,omitempty"`
	Firm      string `json:"firm,omitempty"`
}

// party is an address with the people there.
type party struct {
	address
	addressee
	Phone         string `json:"phone,omitempty"`
	Email         string `json:"email,omitempty"`
	HoldForPickup bool   `json:"holdForPickup,omitempty"`
	FacilityID    string `json:"facilityId,omitempty"`
}

type addressAnswer struct {
	Address        *address `json:"address"`
	AdditionalInfo struct {
		DPVConfirmation string `json:"DPVConfirmation"`
		Business        string `json:"business"`
		Vacant          string `json:"vacant"`
	} `json:"additionalInfo"`
	Corrections []struct {
		Code string `json:"code"`
		Text string `json:"text"`
	} `json:"corrections"`
	Warnings []string `json:"warnings"`
}

type priceQuery struct {
	OriginZIPCode      string   `json:"originZIPCode"`
	DestinationZIPCode string   `json:"destinationZIPCode"`
	Weight             number   `json:"weight"`
	Length             number   `json:"length"`
	Width              number   `json:"width"`
	Height             number   `json:"height"`
	MailClasses        []string `json:"mailClasses"`
	PriceType          string   `json:"priceType"`
	MailingDate        string   `json:"mailingDate,omitempty"`
	AccountType        string   `json:"accountType,omitempty"`
	AccountNumber      string   `json:"accountNumber,omitempty"`
	ItemValue          *number  `json:"itemValue,omitempty"`
	ExtraServices      []int    `json:"extraServices"`
}

type priceAnswer struct {
	RateOptions []rateOption `json:"rateOptions"`
}

type rateOption struct {
	TotalBasePrice number         `json:"totalBasePrice"`
	TotalPrice     *number        `json:"totalPrice"`
	Rates          []rateDetail   `json:"rates"`
	ExtraServices  []extraService `json:"extraServices"`
}

type rateDetail struct {
	SKU                          string  `json:"SKU"`
	Description                  string  `json:"description"`
	Price                        number  `json:"price"`
	Weight                       *number `json:"weight"`
	DimWeight                    *number `json:"dimWeight"`
	Fees                         []fee   `json:"fees"`
	EndDate                      string  `json:"endDate"`
	MailClass                    string  `json:"mailClass"`
	ProcessingCategory           string  `json:"processingCategory"`
	RateIndicator                string  `json:"rateIndicator"`
	DestinationEntryFacilityType string  `json:"destinationEntryFacilityType"`
}

type fee struct {
	Name  string `json:"name"`
	SKU   string `json:"SKU"`
	Price number `json:"price"`
}

type extraService struct {
	ExtraService string `json:"extraService"`
	Name         string `json:"name"`
	SKU          string `json:"SKU"`
	Price        number `json:"price"`
	Warnings     []struct {
		Code string `json:"warningCode"`
		Text string `json:"warningDescription"`
	} `json:"warnings"`
}

type imageInfo struct {
	ImageType     string `json:"imageType"`
	LabelType     string `json:"labelType"`
	ReceiptOption string `json:"receiptOption,omitempty"`
}

type customerReference struct {
	ReferenceNumber      string `json:"referenceNumber"`
	PrintReferenceNumber bool   `json:"printReferenceNumber"`
}

type packageDescription struct {
	MailClass                    string              `json:"mailClass"`
	RateIndicator                string              `json:"rateIndicator"`
	ProcessingCategory           string              `json:"processingCategory"`
	DestinationEntryFacilityType string              `json:"destinationEntryFacilityType,omitempty"`
	WeightUOM                    string              `json:"weightUOM"`
	Weight                       number              `json:"weight"`
	DimensionsUOM                string              `json:"dimensionsUOM"`
	Length                       number              `json:"length"`
	Width                        number              `json:"width"`
	Height                       number              `json:"height"`
	MailingDate                  string              `json:"mailingDate,omitempty"`
	ExtraServices                []int               `json:"extraServices"`
	CustomerReference            []customerReference `json:"customerReference,omitempty"`
	PackageOptions               *packageOptions     `json:"packageOptions,omitempty"`
}

type packageOptions struct {
	PackageValue number `json:"packageValue"`
}

type labelRequest struct {
	ImageInfo          imageInfo          `json:"imageInfo"`
	ToAddress          party              `json:"toAddress"`
	FromAddress        party              `json:"fromAddress"`
	ReturnAddress      *party             `json:"returnAddress,omitempty"`
	PackageDescription packageDescription `json:"packageDescription"`
	CustomsForm        *customsForm       `json:"customsForm,omitempty"`
}

type customsForm struct {
	CustomsContentType string          `json:"customsContentType"`
	InvoiceNumber      string          `json:"invoiceNumber,omitempty"`
	Contents           []customsOfItem `json:"contents"`
}

type customsOfItem struct {
	ItemDescription string `json:"itemDescription"`
	ItemQuantity    int64  `json:"itemQuantity"`
	ItemTotalValue  number `json:"itemTotalValue"`
	WeightUOM       string `json:"weightUOM"`
	ItemTotalWeight number `json:"itemTotalWeight"`
	HSTariffNumber  string `json:"HSTariffNumber,omitempty"`
	CountryOfOrigin string `json:"countryofOrigin,omitempty"`
}

// labelMetadata is what the answers to a label, a return label and their reprints share.
type labelMetadata struct {
	TrackingNumber string         `json:"trackingNumber"`
	SKU            string         `json:"SKU"`
	Postage        *number        `json:"postage"`
	ExtraServices  []extraService `json:"extraServices"`
	Fees           []fee          `json:"fees"`
	Commitment     struct {
		Expected string `json:"expectedDeliveryDate"`
	} `json:"commitment"`
}

type labelAnswer struct {
	labelMetadata
	LabelImage       []byte `json:"labelImage"`
	ReturnLabelImage []byte `json:"returnLabelImage"`
}

type reprintRequest struct {
	ImageInfo imageInfo `json:"imageInfo"`
}

type reprintAnswer struct {
	LabelMetadata       *labelMetadata `json:"labelMetadata"`
	LabelImage          []byte         `json:"labelImage"`
	ReturnLabelMetadata *labelMetadata `json:"returnLabelMetadata"`
	ReturnLabelImage    []byte         `json:"returnLabelImage"`
}

type cancelAnswer struct {
	TrackingNumber string `json:"trackingNumber"`
	Status         string `json:"status"`
	DisputeID      string `json:"disputeId"`
}

type scanRequest struct {
	ImageInfo                    imageInfo  `json:"imageInfo"`
	MailingDate                  string     `json:"mailingDate"`
	OverwriteMailingDate         bool       `json:"overwriteMailingDate"`
	EntryFacilityZIPCode         string     `json:"entryFacilityZIPCode"`
	DestinationEntryFacilityType string     `json:"destinationEntryFacilityType"`
	Shipment                     scanLabels `json:"shipment"`
	FromAddress                  scanFrom   `json:"fromAddress"`
}

type scanLabels struct {
	TrackingNumbers []string `json:"trackingNumbers"`
}

type scanFrom struct {
	address
	addressee
}

type scanAnswer struct {
	ManifestNumber  string   `json:"manifestNumber"`
	TrackingNumbers []string `json:"trackingNumbers"`
	Image           []byte   `json:"SCANFormImage"`
}

type pickupRequest struct {
	PickupDate      string          `json:"pickupDate"`
	PickupAddress   pickupAddress   `json:"pickupAddress"`
	Packages        []pickupPackage `json:"packages"`
	EstimatedWeight number          `json:"estimatedWeight"`
	PickupLocation  pickupLocation  `json:"pickupLocation"`
}

type pickupAddress struct {
	addressee
	Address address         `json:"address"`
	Contact []pickupContact `json:"contact"`
}

type pickupContact struct {
	Email      string `json:"email,omitempty"`
	CellNumber string `json:"cellNumber,omitempty"`
}

type pickupPackage struct {
	PackageType  string `json:"packageType"`
	PackageCount int    `json:"packageCount"`
}

type pickupLocation struct {
	PackageLocation     string `json:"packageLocation"`
	SpecialInstructions string `json:"specialInstructions,omitempty"`
}

// pickupConfirmation is what the API says of a pickup, and what it takes to change one.
type pickupConfirmation struct {
	ConfirmationNumber   string         `json:"confirmationNumber,omitempty"`
	PickupDate           string         `json:"pickupDate"`
	CarrierPickupRequest *pickupRequest `json:"carrierPickupRequest"`
}

type trackAnswer struct {
	TrackingNumber            string       `json:"trackingNumber"`
	StatusCategory            string       `json:"statusCategory"`
	ExpectedDeliveryTimeStamp string       `json:"expectedDeliveryTimeStamp"`
	PredictedDeliveryDate     string       `json:"predictedDeliveryDate"`
	TrackingEvents            []trackEvent `json:"trackingEvents"`
}

type trackEvent struct {
	EventType      string `json:"eventType"`
	EventTimestamp string `json:"eventTimestamp"`
	GMTTimestamp   string `json:"GMTTimestamp"`
	EventCountry   string `json:"eventCountry"`
	EventCity      string `json:"eventCity"`
	EventState     string `json:"eventState"`
	EventZIP       string `json:"eventZIP"`
	EventCode      string `json:"eventCode"`
}

// errorMessage is the body of all the API's errors.
type errorMessage struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Errors  []struct {
			Code   string          `json:"code"`
			Title  string          `json:"title"`
			Detail string          `json:"detail"`
			Source json.RawMessage `json:"source"`
		} `json:"errors"`
	} `json:"error"`
}

type tokenRequest struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	GrantType    string `json:"grant_type"`
}

type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   number `json:"expires_in"`
}

type paymentRequest struct {
	Roles []paymentRole `json:"roles"`
}

type paymentRole struct {
	RoleName      string `json:"roleName"`
	CRID          string `json:"CRID"`
	MID           string `json:"MID"`
	ManifestMID   string `json:"manifestMID"`
	AccountType   string `json:"accountType,omitempty"`
	AccountNumber string `json:"accountNumber,omitempty"`
}

type paymentAnswer struct {
	Token string `json:"paymentAuthorizationToken"`
}
