-- From ARGV[6], four for each event: number, job id or '', kind, text. Those that are there are left.
local newest = tonumber(redis.call("GET", at .. "seq") or "0")
for i = 6, #ARGV, 4 do
  local number = tonumber(ARGV[i])
  if number > newest then
    write_event(number, ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
  end
end
return done({"ok"})
