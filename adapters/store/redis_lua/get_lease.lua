-- Whose the lease is, with its number.
return {"ok", redis.call("GET", at .. "fence"), redis.call("GET", at .. "lease")}
