# A dispatch as the customer's activity in the CRM.
{
  activity: "order-dispatched",
  reference: .orderId,
  at: .eventTime,
  shipment: .shipmentId,
  carrier: (.carrier.name // .carrier.id),
  trackingNumber: .trackingNumber,
  summary: "\(.quantityList | length) articles on their way"
}
