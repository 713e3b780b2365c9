// One behaviour for each first argument.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <dirent.h>
#include <iostream>
#include <memory>
#include <string>

// This libc++ for WASI has neither std::fstream nor std::filesystem.
using File = std::unique_ptr<std::FILE, int (*)(std::FILE *)>;

static File open(const char *path, const char *mode)
{
    File file(std::fopen(path, mode), std::fclose);
    if (!file) {
        std::perror(path);
        std::exit(1);
    }
    return file;
}

static void copy(const char *path)
{
    const File file = open(path, "r");
    for (int c; (c = std::getc(file.get())) != EOF;)
        std::cout.put(static_cast<char>(c));
}

static void files()
{
    std::fputs("written\n", open("/data/out.txt", "w").get());
    copy("/data/out.txt");
    const std::unique_ptr<DIR, int (*)(DIR *)> data(opendir("/data"), closedir);
    while (const dirent *entry = readdir(data.get()))
        std::cout << entry->d_name << '\n';
}

int main(int argc, char **argv)
{
    using std::chrono::system_clock;
    const std::string name = argc > 1 ? argv[1] : "";
    if (name == "args")
        for (int i = 2; i < argc; i++)
            std::cout << argv[i] << '\n';
    else if (name == "env")
        std::cout << std::getenv("GREETING") << '\n';
    else if (name == "files")
        files();
    else if (name == "clock")
        std::cout << system_clock::to_time_t(system_clock::now()) << '\n';
    else if (name == "exit")
        return 7;
    else if (name == "stdin")
        std::cout << std::cin.rdbuf();
    else if (name == "panic") {
        std::cerr << "no such luck\n";
        std::abort();
    } else if (name == "cwd")
        copy("in.txt");
}
