// What this libc++ for WASI cannot: see language.toml.
#include <stdexcept>

int main()
{
    try {
        throw std::runtime_error("no such luck");
    } catch (const std::exception &) {
        return 0;
    }
}
