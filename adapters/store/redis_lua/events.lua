-- ARGV[6] to [9]: first number wanted, most events, 'j' and the job id or '', 'k' and the kind or ''.
-- Answers number and text of each.
local first, limit, answer = ARGV[6], tonumber(ARGV[7]), {"ok"}

local function add(found)
  for _, event in ipairs(found) do
    answer[#answer + 1] = string.match(event[1], "^%d+")
    answer[#answer + 1] = event[2][2]
  end
end

local function event(place)
  return redis.call("XRANGE", at .. "events", place, place)
end

if ARGV[8] ~= "" then
  -- A job has few events: they are looked through for the kind.
  local index, kind = at .. "events:job:" .. string.sub(ARGV[8], 2), string.sub(ARGV[9], 2)
  local skip = 0
  repeat
    local seqs = redis.call("ZRANGEBYSCORE", index, first, "+inf", "LIMIT", skip, limit)
    for _, seq in ipairs(seqs) do
      local found = event(seq .. "-0")
      if #answer <= 2 * limit - 1 and
        (ARGV[9] == "" or cjson.decode(found[1][2][2])[2] == kind) then
        add(found)
      end
    end
    skip = skip + limit
  until #seqs < limit or #answer > 2 * limit
elseif ARGV[9] ~= "" then
  local index = at .. "events:kind:" .. string.sub(ARGV[9], 2)
  for _, found in ipairs(redis.call("XRANGE", index, first .. "-0", "+", "COUNT", limit)) do
    add(event(found[1]))
  end
else
  add(redis.call("XRANGE", at .. "events", first .. "-0", "+", "COUNT", limit))
end
return answer
