# One behaviour for each first argument.
case ARGV.shift
when "args" then puts ARGV
when "env" then puts ENV["GREETING"]
when "files"
  File.write("/data/out.txt", "written\n")
  print File.read("/data/out.txt")
  puts Dir.children("/data")
when "clock" then puts Time.now.to_i
when "exit" then exit 7
when "stdin" then IO.copy_stream($stdin, $stdout)
when "panic" then raise "no such luck"
when "cwd" then print File.read("in.txt")
end
