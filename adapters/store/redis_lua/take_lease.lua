-- ARGV[6] holder, ARGV[7] for how many milliseconds. Answers whose the lease is now, with its number.
local holder = redis.call("GET", at .. "lease")
local fence = redis.call("GET", at .. "fence") or "0"
if holder and holder ~= ARGV[6] then
  return {"held", fence, holder}
end
if not holder then
  -- Not less than the time in milliseconds: a server that came back without its last writes gives none out twice.
  local now = redis.call("TIME")
  local least = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
  fence = string.format("%.0f", math.max(tonumber(fence) + 1, least))
  write("SET", at .. "fence", fence)
end
write("SET", at .. "lease", ARGV[6], "PX", ARGV[7])
return done({"ok", fence, ARGV[6]})
