import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;

/** One behaviour for each first argument. */
public class Guest {
    public static void main(String[] args) throws IOException {
        switch (args[0]) {
            case "args" -> {
                for (int i = 1; i < args.length; i++) {
                    System.out.println(args[i]);
                }
            }
            case "env" -> System.out.println(System.getenv("GREETING"));
            case "files" -> files();
            case "clock" -> System.out.println(System.currentTimeMillis() / 1000);
            case "stdin" -> copy(System.in);
            case "panic" -> throw new IllegalStateException("no such luck");
            case "cwd" -> copy(new FileInputStream("in.txt"));
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    private static void files() throws IOException {
        try (var out = new FileOutputStream("/data/out.txt")) {
            out.write("written\n".getBytes());
        }
        copy(new FileInputStream("/data/out.txt"));
        for (var name : new File("/data").list()) {
            System.out.println(name);
        }
    }

    private static void copy(InputStream in) throws IOException {
        var buffer = new byte[1024];
        for (int n = in.read(buffer); n > 0; n = in.read(buffer)) {
            System.out.write(buffer, 0, n);
        }
        System.out.flush();
    }
}
