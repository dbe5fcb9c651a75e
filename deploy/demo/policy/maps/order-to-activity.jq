# An order as the customer's activity in the CRM.
{
  activity: "order-placed",
  customerId: .customer.id,
  reference: .orderId,
  at: .orderedAt,
  region: .salesRegion,
  amount: .payableAmount,
  currency: .currency,
  summary: "\(.lines | length) lines for \(.shipTo.name), \(.shipTo.city)",
  discountGiven: ([.lines[] | select((.discount // "0") | dec_cmp(.; "0") > 0)] | length > 0)
}
