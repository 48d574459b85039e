-- ARGV[6] holder.
if redis.call("GET", at .. "lease") == ARGV[6] then
  write("DEL", at .. "lease")
end
return done({"ok"})
