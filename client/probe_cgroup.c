/* Control groups, version 2: is there a hierarchy, with what in it, and is any of it ours? */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/probe.h"

static const char *const controllers[] = {"memory", "pids", "cpu"};

/* Where version 2 is mounted. In /proc/self/mountinfo the type follows " - ". */
static int find_mount(char path[PATH_MAX])
{
    char *line = NULL;
    size_t size = 0;
    int found = -1;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    while (file && found < 0 && getline(&line, &size, file) > 0) {
        char mount[PATH_MAX];
        if (strstr(line, " - cgroup2 ") && sscanf(line, "%*s %*s %*s %*s %4095s", mount) == 1) {
            snprintf(path, PATH_MAX, "%s", mount);
            found = 0;
        }
    }
    free(line);
    if (file) {
        fclose(file);
    }
    return found;
}

/* The group that we are in: the line "0::PATH" of /proc/self/cgroup. */
static int find_own(char path[PATH_MAX])
{
    char *line = NULL;
    size_t size = 0;
    int found = -1;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && found < 0 && getline(&line, &size, file) > 0) {
        if (strncmp(line, "0::/", 4) == 0) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(path, PATH_MAX, "%s", line + 3);
            found = 0;
        }
    }
    free(line);
    if (file) {
        fclose(file);
    }
    return found;
}

/* Our own group as a folder of the hierarchy. Returns 0, or -1 with a "no" in answer. */
static int find_folder(char folder[2 * PATH_MAX], struct probe_answer *answer)
{
    char mount[PATH_MAX], own[PATH_MAX];
    if (find_mount(mount) < 0 || find_own(own) < 0) {
        probe_answer_set(answer, PROBE_NO, "no cgroup v2 hierarchy is mounted");
        return -1;
    }
    snprintf(folder, (size_t)2 * PATH_MAX, "%s%s", mount, strcmp(own, "/") == 0 ? "" : own);
    return 0;
}

void probe_cgroup_v2(const struct probe *probe, const struct probe_user *user,
                     struct probe_answer *answer)
{
    char mount[PATH_MAX];
    (void)probe;
    (void)user;
    if (find_mount(mount) < 0) {
        probe_answer_set(answer, PROBE_NO, "not mounted");
    } else {
        probe_answer_set(answer, PROBE_YES, "%.200s", mount);
    }
}

/* Whether a line of words that are separated by blanks has this one. */
static bool has_word(const char *line, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = line; (at = strstr(at, word)); at += len) {
        if ((at == line || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0')) {
            return true;
        }
    }
    return false;
}

static void read_line(const char *path, char *line, int size)
{
    FILE *file = fopen(path, "re");
    if (!file || !fgets(line, size, file)) {
        line[0] = '\0';
    }
    line[strcspn(line, "\n")] = '\0';
    if (file) {
        fclose(file);
    }
}

void probe_cgroup_controllers(const struct probe *probe, const struct probe_user *user,
                              struct probe_answer *answer)
{
    char folder[2 * PATH_MAX], path[2 * PATH_MAX + 32], line[256], missing[64] = "";
    (void)probe;
    (void)user;
    if (find_folder(folder, answer) < 0) {
        return;
    }
    snprintf(path, sizeof path, "%s/cgroup.controllers", folder);
    read_line(path, line, sizeof line);
    for (size_t i = 0; i < sizeof controllers / sizeof controllers[0]; i++) {
        if (!has_word(line, controllers[i])) {
            size_t used = strlen(missing);
            snprintf(missing + used, sizeof missing - used, " %s", controllers[i]);
        }
    }
    if (missing[0]) {
        probe_answer_set(answer, PROBE_NO, "missing in our group:%s", missing);
    } else {
        probe_answer_set(answer, PROBE_YES, "%s", line);
    }
}

void probe_cgroup_delegation(const struct probe *probe, const struct probe_user *user,
                             struct probe_answer *answer)
{
    char folder[2 * PATH_MAX], path[2 * PATH_MAX + 32];
    (void)probe;
    if (find_folder(folder, answer) < 0 || probe_become(user, answer) < 0) {
        return;
    }
    snprintf(path, sizeof path, "%s/cgroup.procs", folder);
    if (access(folder, W_OK | X_OK) < 0 || access(path, W_OK) < 0) {
        probe_answer_set(answer, PROBE_NO, "%.160s is not for uid %u to write: %s", folder,
                         user->uid, strerror(errno));
    } else {
        probe_answer_set(answer, PROBE_YES, "%.200s", folder);
    }
}
