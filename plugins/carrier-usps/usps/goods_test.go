package usps

import (
	"fmt"
	"math"
	"net/http"
	"strings"
)

// quote gives prices of the mail classes that were asked for: of a box, in cubic tiers, of a
// flat-rate envelope, and some that no label can be made with.
func (p *provider) quote(asked object) answer {
	if asked["destinationZIPCode"] == "99999" {
		return refuse(400, "the ZIP code is not valid", "destinationZIPCode")
	}
	if date, _ := asked["mailingDate"].(string); date == "2026-12-24" {
		return refuse(400, "the date is too far away", "mailingDate")
	}
	options := []any{}
	if asked["destinationZIPCode"] == "00501" {
		return answer{status: 200, body: object{"rateOptions": options}}
	}
	for _, name := range asked["mailClasses"].([]any) {
		for _, k := range []struct {
			indicator, category, facility string
			price                         float64
		}{{"SP", "MACHINABLE", "NONE", 10.40}, {"CP", "MACHINABLE", "NONE", 9.15}, {"FE", "FLATS", "NONE", 8.85}, {"SP", "MACHINABLE", "DESTINATION_DELIVERY_UNIT", 3.10}, {"SP", "OPEN_AND_DISTRIBUTE", "NONE", 1.00}} {
			price := k.price + dearer(name.(string))
			extras, total := extrasOf(asked["extraServices"].([]any), name.(string) == "LIBRARY_MAIL", asked["itemValue"])
			fee := 0.25
			options = append(options, object{
				"totalBasePrice": round(price + fee), "totalPrice": round(price + fee + total), "extraServices": extras,
				"rates": []any{object{"SKU": "D" + k.indicator, "description": fmt.Sprint(name, " ", k.indicator), "priceType": asked["priceType"], "price": price, "weight": asked["weight"], "dimWeight": 0.0,
					"fees": []any{object{"name": "Nonstandard length", "SKU": "DFEE", "price": fee}}, "startDate": "2026-07-12", "endDate": "", "mailClass": name, "zone": "05",
					"processingCategory": k.category, "rateIndicator": k.indicator, "destinationEntryFacilityType": k.facility}},
			})
		}
	}
	return answer{status: 200, body: object{"rateOptions": options}}
}

// dearer is what a mail class costs more than the cheapest.
func dearer(name string) float64 {
	switch strings.TrimSuffix(name, "_RETURN_SERVICE") {
	case express:
		return 20
	case "PRIORITY_MAIL":
		return 1
	case "MEDIA_MAIL", "LIBRARY_MAIL":
		return -4
	}
	return 0
}

func round(f float64) float64 { return math.Round(f*100) / 100 }

// extrasOf prices extra services. Some mail has none but tracking.
func extrasOf(codes []any, plain bool, value any) ([]any, float64) {
	out, total := []any{}, 0.0
	for _, c := range codes {
		code, price := int(c.(float64)), 0.0
		switch {
		case code == 920 || code == 986:
		case plain:
			continue
		case code == 930 && value.(float64) > 500:
			code, price = 931, 6.50
		default:
			price = 3.45
		}
		total += price
		out = append(out, object{"extraService": fmt.Sprint(code), "name": fmt.Sprint("service ", code), "SKU": fmt.Sprint("DX", code), "priceType": "COMMERCIAL", "price": price})
	}
	return out, total
}

// sell makes a label. The same key with the same request gives the same label.
func (p *provider) sell(asked object, body []byte, key string, back bool) answer {
	for _, l := range p.labels {
		if l.key == key && key != "" {
			if l.body != digest(body) {
				return refuse(400, "the key was used for another request", keyHeader)
			}
			return p.labelAnswer(l)
		}
	}
	to := asked["toAddress"].(object)
	if to["ZIPCode"] == "99998" {
		return refuse(400, "nothing is delivered there", "toAddress.ZIPCode")
	}
	p.serial++
	l := &sold{number: fmt.Sprintf("92055900%014d", p.serial), key: key, body: digest(body), request: asked, back: back}
	p.labels[l.number] = l
	return p.labelAnswer(l)
}

func (l *sold) metadata() object {
	description := l.request["packageDescription"].(object)
	price := map[string]float64{"SP": 10.40, "CP": 9.15, "FE": 8.85}[description["rateIndicator"].(string)]
	extras, _ := extrasOf(description["extraServices"].([]any), false, path(description, "packageOptions", "packageValue"))
	for _, e := range extras {
		delete(e.(object), "extraService") // it is not in the answer to a label
		delete(e.(object), "priceType")
	}
	out := object{"labelAddress": l.request["toAddress"], "routingInformation": "42063104", "trackingNumber": l.number, "SKU": "DUXP0XXXUC05010",
		"postage": price + dearer(description["mailClass"].(string)), "extraServices": extras, "zone": "05", "weightUOM": "lb", "weight": 1.5,
		"fees": []any{object{"name": "Nonstandard length", "SKU": "DFEE", "price": 0.25}}}
	if !l.back {
		out["commitment"] = object{"name": "3 Days", "expectedDeliveryDate": "2026-11-30"}
	}
	return out
}

func (p *provider) labelAnswer(l *sold) answer {
	out := l.metadata()
	name := "labelImage"
	if l.back {
		name = "returnLabelImage"
	}
	out[name] = picture(l.request["imageInfo"].(object)["imageType"].(string))
	return answer{status: 200, media: labelsJSON, body: out}
}

// reprint prints again, by the number or by the key. What is not there it calls as in the
// document's example.
func (p *provider) reprint(asked object, number, key string) answer {
	l := p.labels[number]
	if number == "label-reprint" {
		for _, one := range p.labels {
			if one.key == key {
				l = one
			}
		}
	}
	switch {
	case p.blind:
		return refuse(400, "labels can only be reprinted up to the mailing date", "mailingDate")
	case l == nil:
		return refuse(400, "Order not found", "trackingNumber")
	case l.cancelled || l.reprints == 3:
		return refuse(400, "the label is not eligible for reprint", "trackingNumber")
	}
	l.reprints++
	image := picture(asked["imageInfo"].(object)["imageType"].(string))
	out := object{"labelMetadata": l.metadata(), "labelImage": image}
	if l.back {
		out = object{"returnLabelMetadata": l.metadata(), "returnLabelImage": image}
	}
	out["reprintInfo"] = object{"reprintNumber": l.reprints, "reprintLimit": 3}
	return answer{status: 200, media: labelsJSON, body: out}
}

func (p *provider) cancel(number string) answer {
	l := p.labels[number]
	switch {
	case l == nil || l.cancelled:
		return refuse(400, "Order not found", "trackingNumber")
	case l.disputed:
		return refuse(400, "A refund request for this order has already been submitted today", "trackingNumber")
	case l.scanned:
		return refuse(400, "A refund request for this order cannot be submitted", "trackingNumber")
	case l.gone:
		l.disputed = true
		return answer{status: 200, body: object{"trackingNumber": number, "status": "DISPUTED", "disputeId": "103789"}}
	}
	l.cancelled = true
	return answer{status: 200, body: object{"trackingNumber": number, "status": "CANCELED"}}
}

func (p *provider) scan(asked object) answer {
	numbers := asked["shipment"].(object)["trackingNumbers"].([]any)
	for _, n := range numbers {
		if l := p.labels[n.(string)]; l == nil || l.cancelled || l.back || l.scanned {
			return refuse(400, "the label is not eligible for a SCAN form", "shipment.trackingNumbers")
		}
	}
	for _, n := range numbers {
		p.labels[n.(string)].scanned = true
	}
	p.serial++
	out := object{}
	for _, same := range []string{"imageInfo", "mailingDate", "overwriteMailingDate", "entryFacilityZIPCode", "destinationEntryFacilityType", "shipment", "fromAddress"} {
		out[same] = asked[same]
	}
	out["manifestNumber"], out["trackingNumbers"], out["SCANFormImage"] = fmt.Sprintf("94750%017d", p.serial), numbers, picture("PDF")
	return answer{status: 200, media: labelsJSON, body: out}
}

// pickup plays the pickups: each change needs the newest tag, and what is cancelled stays so.
func (p *provider) pickup(on string, asked object, confirmation, tag string) answer {
	renew := func(confirmation string) map[string]string {
		p.serial++
		p.tags[confirmation] = fmt.Sprintf("%040x", p.serial)
		return map[string]string{"ETag": p.tags[confirmation]}
	}
	if on == onPickup {
		if asked["pickupDate"] == "2026-12-25" {
			return refuse(400, "there is no pickup on that day", "pickupDate")
		}
		p.serial++
		confirmation = fmt.Sprintf("WTC%08d", p.serial)
		p.pickups[confirmation] = object{"confirmationNumber": confirmation, "pickupDate": asked["pickupDate"], "carrierPickupRequest": asked}
		return answer{status: 200, header: renew(confirmation), body: p.pickups[confirmation]}
	}
	one := p.pickups[confirmation]
	switch {
	case one == nil:
		return refuse(400, "the confirmation number was not found", "confirmationNumber")
	case on == onFetch:
		return answer{status: 200, header: renew(confirmation), body: []any{one}}
	case one["carrierPickupRequest"] == nil:
		return refuse(400, "the pickup is cancelled", "confirmationNumber")
	case tag == "" || tag != p.tags[confirmation]:
		return refuse(400, "the tag is not that of the pickup", "If-Match")
	case on == onUnbook:
		delete(one, "carrierPickupRequest")
		delete(p.tags, confirmation)
		return answer{status: 200}
	}
	one["pickupDate"], one["carrierPickupRequest"] = asked["pickupDate"], asked["carrierPickupRequest"]
	return answer{status: 200, header: renew(confirmation), body: one}
}

// track tells the newest first, as the provider does, with two events in one minute.
func (p *provider) track(number string) answer {
	l := p.labels[number]
	if l == nil {
		return refuse(404, "the tracking number is not known", "trackingNumber")
	}
	event := func(code, kind, at string) object {
		return object{"eventType": kind, "eventTimestamp": at, "GMTTimestamp": at, "eventCity": "SAINT LOUIS", "eventState": "MO", "eventZIP": "63104", "eventCode": code}
	}
	return answer{status: 200, body: object{"trackingNumber": number, "statusCategory": "Delivered", "expectedDeliveryTimeStamp": "2026-11-30T20:00:00Z", "trackingEvents": []any{
		event("01", "Delivered, Front Door/Porch", "2026-11-30T18:04:00Z"), event("OF", "Out for Delivery", "2026-11-30T13:10:00Z"),
		event("ZZ", "Arrived at USPS Regional Facility", "2026-11-29T03:00:00Z"), event("10", "Processed", "2026-11-29T03:00:00Z"), event("GX", "Shipping Label Created, USPS Awaiting Item", "2026-11-27T09:00:00Z"),
	}}}
}

func (p *provider) address(r *http.Request) answer {
	q := r.URL.Query()
	if strings.HasPrefix(q.Get("streetAddress"), "1 NOWHERE") {
		return answer{status: 404, body: object{"apiVersion": "v3", "error": object{"code": "404", "message": "There is no match for the address requested.", "errors": []any{}}}}
	}
	dpv := "Y"
	if strings.HasPrefix(q.Get("streetAddress"), "2 ") {
		dpv = "D"
	}
	place := object{"streetAddress": strings.ToUpper(q.Get("streetAddress")), "city": strings.ToUpper(q.Get("city")), "state": q.Get("state"), "ZIPCode": q.Get("ZIPCode"), "ZIPPlus4": "2351"}
	if q.Get("secondaryAddress") != "" {
		place["secondaryAddress"] = strings.ToUpper(q.Get("secondaryAddress"))
	}
	return answer{status: 200, body: object{"address": place, "additionalInfo": object{"DPVConfirmation": dpv, "business": "N", "vacant": "N"}, "corrections": []any{}, "matches": []any{object{"code": "31", "text": "Single Response - exact match"}}, "warnings": []any{}}}
}
