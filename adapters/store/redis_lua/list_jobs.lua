-- ARGV[6] to [8]: most jobs wanted, the member after which they stand or '', 'p' and the project or '';
-- then the states. One sorted set a state, each with the newest first, is merged up to the limit: the
-- work does not grow with the number of stored jobs.
local limit, bound = tonumber(ARGV[6]), ARGV[7] == "" and "+" or "(" .. ARGV[7]
local pages, places = {}, {}
for i = 9, #ARGV do
  local index = at .. "jobs:state:" .. ARGV[i]
  if ARGV[8] ~= "" then
    index = at .. "jobs:project:" .. ARGV[i] .. ":" .. string.sub(ARGV[8], 2)
  end
  local page = redis.call("ZREVRANGEBYLEX", index, bound, "-", "LIMIT", 0, limit)
  if #page > 0 then
    pages[#pages + 1], places[#pages + 1] = page, 1
  end
end

-- By bytes: Lua's own `<` would follow the locale of the server.
local function is_later(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then
      return x > y
    end
  end
  return #a > #b
end

local merged = {}
while #merged < limit do
  local best
  for i = 1, #pages do
    local head = pages[i][places[i]]
    if head and (not best or is_later(head, pages[best][places[best]])) then
      best = i
    end
  end
  if not best then
    break
  end
  merged[#merged + 1] = pages[best][places[best]]
  places[best] = places[best] + 1
end
return add_values({"ok"}, at .. "jobs", merged)
