/* Runs /guest.lua. The crate lua-src has Lua's library, but not its command. */
#include <stdio.h>

#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"

int main(int argc, char **argv)
{
    lua_State *lua = luaL_newstate();

    luaL_openlibs(lua);
    lua_newtable(lua);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(lua, argv[i]);
        lua_rawseti(lua, -2, i);
    }
    lua_setglobal(lua, "arg");
    if (luaL_dofile(lua, "/guest.lua") != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(lua, -1));
        return 1;
    }
    lua_close(lua);
    return 0;
}
