/* Pure. What is named here is enforced elsewhere: spawn.c, init.c, view.c, gate.c. */
#include "supervisor/protections.h"

#include <string.h>

const char *const protection_names[] = {
#define X(name, word) word,
    PROTECTIONS(X)
#undef X
        NULL,
};

unsigned protections_given(bool own_uid, bool landlock, bool namespaces)
{
    const unsigned all = (1U << PROTECTION_COUNT) - 1;
    const unsigned before_namespaces = (1U << PROTECTION_USER_NAMESPACE) - 1;
    unsigned set = namespaces ? all : before_namespaces;

    if (!landlock) {
        set &= ~(1U << PROTECTION_LANDLOCK);
    }
    return own_uid ? set : set & ~(1U << PROTECTION_UID);
}

size_t protections_list(unsigned set, char *list, size_t size)
{
    size_t len = 0;

    for (size_t i = 0; i < PROTECTION_COUNT; i++) {
        size_t name = strlen(protection_names[i]) + 1;

        if ((set & 1U << i) && name <= size - len) {
            memcpy(list + len, protection_names[i], name);
            len += name;
        }
    }
    return len;
}
