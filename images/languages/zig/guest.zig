//! One behaviour for each first argument.
const std = @import("std");
const Io = std.Io;

pub fn main(init: std.process.Init) !void {
    const io = init.io;
    const args = try init.minimal.args.toSlice(init.arena.allocator());
    const Case = enum { args, env, files, clock, exit, stdin, panic, cwd };
    var buffer: [1024]u8 = undefined;
    var writer: Io.File.Writer = .init(.stdout(), io, &buffer);
    const out = &writer.interface;
    switch (std.meta.stringToEnum(Case, args[1]).?) {
        .args => for (args[2..]) |arg| try out.print("{s}\n", .{arg}),
        .env => try out.print("{s}\n", .{init.environ_map.get("GREETING") orelse ""}),
        .files => try files(init, out),
        .clock => try out.print("{d}\n", .{Io.Timestamp.now(io, .real).toSeconds()}),
        .exit => std.process.exit(7),
        .stdin => {
            var read: [1024]u8 = undefined;
            var reader: Io.File.Reader = .initStreaming(.stdin(), io, &read);
            _ = try reader.interface.streamRemaining(out);
        },
        .panic => @panic("no such luck"),
        .cwd => try out.writeAll(try text(init, .cwd(), "in.txt")),
    }
    try out.flush();
}

fn files(init: std.process.Init, out: *Io.Writer) !void {
    var data = try Io.Dir.cwd().openDir(init.io, "/data", .{ .iterate = true });
    defer data.close(init.io);
    try data.writeFile(init.io, .{ .sub_path = "out.txt", .data = "written\n" });
    try out.writeAll(try text(init, data, "out.txt"));
    var entries = data.iterate();
    while (try entries.next(init.io)) |entry| try out.print("{s}\n", .{entry.name});
}

fn text(init: std.process.Init, dir: Io.Dir, path: []const u8) ![]u8 {
    return dir.readFileAlloc(init.io, path, init.arena.allocator(), .unlimited);
}
