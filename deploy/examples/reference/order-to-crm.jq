{reference: .orderId, pieces: .quantity}
