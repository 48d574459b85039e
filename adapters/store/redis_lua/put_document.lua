-- ARGV[6] and [7]: key, text.
if not is_repeat then
  write("HSET", at .. "documents", ARGV[6], ARGV[7])
end
return done({"ok"})
