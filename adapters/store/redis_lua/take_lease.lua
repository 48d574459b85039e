-- ARGV[6] holder, ARGV[7] for how many milliseconds, ARGV[8] the time there in seconds, ARGV[9] by how much it may
-- differ. Answers whose the lease is now, with its number, or 'skewed' with the difference.
local now = redis.call("TIME")
local ahead = tonumber(ARGV[8]) - tonumber(now[1])
if math.abs(ahead) > tonumber(ARGV[9]) then
  return {"skewed", string.format("%.0f", ahead)}
end
local holder = redis.call("GET", at .. "lease")
local fence = redis.call("GET", at .. "fence") or "0"
if holder and holder ~= ARGV[6] then
  return {"held", fence, holder}
end
if not holder then
  -- Not less than the time in milliseconds: a server that came back without its last writes gives none out twice.
  local least = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
  fence = string.format("%.0f", math.max(tonumber(fence) + 1, least))
  write("SET", at .. "fence", fence)
end
write("SET", at .. "lease", ARGV[6], "PX", ARGV[7])
return done({"ok", fence, ARGV[6]})
