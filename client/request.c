#include "client/request.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 2, 3))) static int refuse(struct request_error *error,
                                                        const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    return -EINVAL;
}

int request_take_command(struct request *request, char **words, struct request_error *error)
{
    if (!words[0]) {
        return refuse(error, "no command was given; it follows the options, after --");
    }
    if (!words[0][0]) {
        return refuse(error, "the command is an empty word");
    }
    if (request->shell && words[1]) {
        return refuse(error,
                      "with --shell the command is one word, but \"%.200s\" follows: put "
                      "quotes around the whole command",
                      words[1]);
    }
    for (size_t i = 0; i < request->env.count; i++) {
        const char *item = request->env.items[i];
        if (item[0] == '=' || !strchr(item, '=')) {
            return refuse(error, "--env \"%.200s\": it must look like NAME=VALUE", item);
        }
    }
    request->argv = words;
    return 0;
}
