-- From ARGV[6], three for each entry: id, text, mark.
for i = 6, #ARGV, 3 do
  write_entry(ARGV[i], ARGV[i + 1], ARGV[i + 2])
end
return done({"ok"})
