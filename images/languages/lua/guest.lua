-- One behaviour for each first argument.
local function read(path)
  local file <close> = assert(io.open(path))
  return file:read("a")
end

local cases = {}

function cases.args()
  for i = 2, #arg do
    print(arg[i])
  end
end

function cases.env()
  print(os.getenv("GREETING"))
end

function cases.files()
  local out = assert(io.open("/data/out.txt", "w"))
  out:write("written\n")
  out:close()
  io.write(read("/data/out.txt"))
end

function cases.clock()
  print(os.time())
end

function cases.exit()
  os.exit(7)
end

function cases.stdin()
  io.write(io.read("a"))
end

function cases.panic()
  error("no such luck")
end

function cases.cwd()
  io.write(read("in.txt"))
end

cases[arg[1]]()
