return {
  "ok",
  string.format("%.0f", redis.call("HLEN", at .. "jobs")),
  string.format("%.0f", redis.call("XLEN", at .. "events")),
  string.format("%.0f", redis.call("HLEN", at .. "entries")),
  string.format("%.0f", redis.call("HLEN", at .. "documents")),
}
