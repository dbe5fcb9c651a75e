# The ERP's answer as the customer's activity in the CRM.
{
  activity: "order-\(.status)",
  reference: .orderId,
  at: .acceptedAt,
  region: .salesRegion,
  promisedFor: (.promisedFor // null),
  summary: (.reason // "ERP order \(.erpOrderId)")
}
