{orderId, net: (reduce .lines[] as $l ("0"; dec_add(.; $l.net)))}
