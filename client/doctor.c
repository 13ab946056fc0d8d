/*
 * Needs no bulkheadd and no privilege. Asked by root, it tries things as the
 * user that bulkheadd would become; nothing that it tries is left behind.
 */
#include "client/doctor.h"

#include <errno.h>
#include <jansson.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/probe.h"
#include "client/verdict.h"
#include "common/log.h"
#include "common/option.h"

/* Level full does not work here. */
#define EXIT_LACKING 1

/* As bulkheadd has it: the first uid of a block is the frontend's, the second its own. */
#define UID_RANGE "1879048192-1879113727"
#define OWN_UIDS 2
#define PACKAGE_USER "bulkhead"

struct doctor_options {
    const char *uid_range;
    bool json, help;
};

static const struct option_spec specs[] = {
    {.name = "uid-range",
     .type = OPTION_TEXT,
     .offset = offsetof(struct doctor_options, uid_range),
     .argument = "FIRST-LAST",
     .fallback = UID_RANGE,
     .help = "as given to bulkheadd"},
    {.name = "json",
     .letter = 'j',
     .type = OPTION_FLAG,
     .offset = offsetof(struct doctor_options, json),
     .help = "print the table as one line of JSON"},
    {.name = "help",
     .letter = 'h',
     .type = OPTION_FLAG,
     .offset = offsetof(struct doctor_options, help),
     .help = "print this and leave"},
};

const struct option_table doctor_table = {
    .program = "bulkhead doctor",
    .synopsis = "[OPTION...]",
    .summary =
        "Tries what bulkheadd needs of this host, and says what to do about what is missing.",
    .specs = specs,
    .count = sizeof specs / sizeof specs[0],
    .footer = "Exit codes: 0 level full works here for this user; 1 it does not; 125 a failure of\n"
              "ours. See bulkhead(1).",
};

/* ---- the table ---- */

#define MOUNTS "unshare and mount must be allowed: the container's seccomp and AppArmor profiles"
#define ALL_BUT_USER \
    (CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

#define NAMESPACE(kind, flag, purpose, hint)                                       \
    {                                                                              \
        .name = #kind "_namespace", .what_for = (purpose), .need = NEEDED_BY_FULL, \
        .after = (flag) ? "user_namespace" : "uid_range", .run = probe_namespaces, \
        .namespaces = (flag), .inside = inside_##kind, .remedy = (hint),           \
    }

static const struct probe probes[] = {
    {.name = "kernel",
     .what_for = "the system calls that are used",
     .need = NEEDED_BY_BOTH,
     .run = probe_kernel,
     .remedy = "a kernel of 5.14 or newer"},
    {.name = "no_new_privs",
     .what_for = "set-user-ID programs give nothing",
     .need = NEEDED_BY_BOTH,
     .run = probe_no_new_privs,
     .remedy = "a kernel of 5.14 or newer"},
    {.name = "seccomp",
     .what_for = "the list of system calls",
     .need = NEEDED_BY_BOTH,
     .run = probe_seccomp,
     .remedy = "a kernel with CONFIG_SECCOMP_FILTER, and no profile that refuses seccomp()"},
    {.name = "uid_range",
     .what_for = "a host uid for each session",
     .need = NEEDED_BY_BOTH,
     .run = probe_uid_range,
     .remedy =
         "a --uid-range out of those in /proc/self/uid_map, for bulkheadd too; or start as an "
         "ordinary user"},
    {.name = "sealed_copy",
     .what_for = "bulkheadd out of the reach of commands",
     .need = NEEDED_BY_BOTH,
     .run = probe_sealed_copy,
     .remedy = "sysctl vm.memfd_noexec=1 or 0, and /proc mounted"},
    {.name = "read_back",
     .what_for = "the look at a command before it runs",
     .need = NEEDED_BY_BOTH,
     .after = "uid_range",
     .run = probe_read_back,
     .remedy = "mount /proc without hidepid, or with gid= of the group that bulkheadd runs as"},
    NAMESPACE(
        user, 0, "users of its own",
        "allow user namespaces to ordinary users: see the last three rows; in a container its "
        "seccomp profile; in a unit no RestrictNamespaces"),
    NAMESPACE(mount, CLONE_NEWNS, "files of its own", MOUNTS),
    NAMESPACE(pid, CLONE_NEWPID, "processes of its own", "a kernel with CONFIG_PID_NS"),
    NAMESPACE(network, CLONE_NEWNET, "nothing but loopback",
              "a kernel with CONFIG_NET_NS, and nothing that keeps AF_INET away"),
    NAMESPACE(ipc, CLONE_NEWIPC, "shared memory of its own", "a kernel with CONFIG_IPC_NS"),
    NAMESPACE(uts, CLONE_NEWUTS, "a host name of its own",
              "a kernel with CONFIG_UTS_NS; in a unit no ProtectHostname"),
    NAMESPACE(cgroup, CLONE_NEWCGROUP, "no sight of the host's groups",
              "a kernel with CONFIG_CGROUPS"),
    {.name = "own_files",
     .what_for = "private /tmp, workspace, terminals",
     .need = NEEDED_BY_FULL,
     .after = "mount_namespace",
     .run = probe_namespaces,
     .namespaces = CLONE_NEWNS,
     .inside = inside_files,
     .remedy = MOUNTS},
    {.name = "own_usr",
     .what_for = "the host's /usr, read-only",
     .need = NEEDED_BY_FULL,
     .after = "mount_namespace",
     .run = probe_namespaces,
     .namespaces = CLONE_NEWNS,
     .inside = inside_usr,
     .remedy = MOUNTS},
    {.name = "whole_proc",
     .what_for = "or it cannot be mounted anew",
     .run = probe_whole_proc,
     .remedy =
         "Docker --security-opt systempaths=unconfined, Podman --security-opt unmask=ALL; in a "
         "unit no ProtectKernel..., ProtectProc, ProcSubset"},
    {.name = "own_proc",
     .what_for = "its own processes in /proc only",
     .need = NEEDED_BY_FULL,
     .after = "mount_namespace",
     .run = probe_namespaces,
     .namespaces = CLONE_NEWNS | CLONE_NEWPID,
     .inside = inside_proc,
     .remedy = "uncover /proc, see whole_proc"},
    {.name = "own_root",
     .what_for = "all of them at once, no way back",
     .need = NEEDED_BY_FULL,
     .after = "mount_namespace",
     .run = probe_namespaces,
     .namespaces = ALL_BUT_USER,
     .inside = inside_root,
     .remedy = MOUNTS},
    {.name = "landlock",
     .what_for = "writing, TCP and signals once more",
     .run = probe_landlock,
     .remedy = "a kernel with CONFIG_SECURITY_LANDLOCK, and landlock in its lsm= list"},
    {.name = "cgroup_v2",
     .what_for = "not used yet: limits of memory",
     .run = probe_cgroup_v2,
     .remedy = "mount it: systemd.unified_cgroup_hierarchy=1, or cgroup_no_v1=all"},
    {.name = "cgroup_controllers",
     .what_for = "not used yet: memory, pids, cpu",
     .after = "cgroup_v2",
     .run = probe_cgroup_controllers,
     .remedy = "take them away from version 1 (cgroup_no_v1=all), and enable them in "
               "cgroup.subtree_control of the groups above"},
    {.name = "cgroup_delegation",
     .what_for = "not used yet: a subtree of our own",
     .after = "uid_range",
     .run = probe_cgroup_delegation,
     .remedy = "Delegate=yes in the unit; for a shell systemd-run --user --scope -p Delegate=yes"},
    {.name = "user.max_*_namespaces",
     .what_for = "how many namespaces there may be",
     .run = probe_max_namespaces,
     .remedy = "sysctl: raise the one that is 0"},
    {.name = "kernel.unprivileged_userns_clone",
     .what_for = "user namespaces on Debian",
     .run = probe_userns_clone,
     .remedy = "sysctl kernel.unprivileged_userns_clone=1"},
    {.name = "kernel.apparmor_restrict_unprivileged_userns",
     .what_for = "user namespaces on Ubuntu",
     .run = probe_apparmor,
     .remedy = "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or AppArmor profiles with "
               "\"userns,\" for bulkheadd and bulkhead-frontend"},
};

#define PROBES (sizeof probes / sizeof probes[0])

struct findings {
    struct probe_user user;
    struct probe_answer answers[PROBES];
    bool full, basic;
};

/* ---- who asks ---- */

static bool has_id_capabilities(void)
{
    const uint32_t ids = 1U << CAP_SETUID | 1U << CAP_SETGID;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2];
    return syscall(SYS_capget, &header, sets) == 0 && (sets[0].effective & ids) == ids;
}

static int parse_range(const char *text, uint64_t *first)
{
    char copy[64];
    uint64_t last;
    snprintf(copy, sizeof copy, "%s", text);
    char *dash = strchr(copy, '-');
    if (!dash) {
        return -EINVAL;
    }
    *dash = '\0';
    if (option_parse_uint(copy, first) != 0 || option_parse_uint(dash + 1, &last) != 0) {
        return -EINVAL;
    }
    /* The frontend's, its own, and the two of one cell. */
    return *first > 0 && last < UINT32_MAX && *first + OWN_UIDS < last ? 0 : -EINVAL;
}

static void find_user(struct probe_user *user, uint64_t first)
{
    const struct passwd *package = getpwnam(PACKAGE_USER);
    *user = (struct probe_user){.system = has_id_capabilities(),
                                .uid = geteuid(),
                                .gid = getegid(),
                                .cell_uid = (uid_t)first + OWN_UIDS};
    if (user->system && user->uid == 0) {
        user->uid = package ? package->pw_uid : (uid_t)first + 1;
        user->gid = package ? package->pw_gid : (gid_t)first + 1;
    }
}

/* ---- trying ---- */

static const struct probe_answer *answer_of(const struct findings *findings, const char *name)
{
    for (size_t i = 0; i < PROBES; i++) {
        if (strcmp(probes[i].name, name) == 0) {
            return &findings->answers[i];
        }
    }
    return NULL;
}

static int try_all(struct findings *findings)
{
    findings->full = findings->basic = true;
    for (size_t i = 0; i < PROBES; i++) {
        const struct probe *probe = &probes[i];
        struct probe_answer *answer = &findings->answers[i];
        if (probe->after && answer_of(findings, probe->after)->verdict == PROBE_NO) {
            probe_answer_set(answer, PROBE_NO, "not tried: %s is missing", probe->after);
        } else {
            int code = probe_run(probe, &findings->user, answer);
            if (code != 0) {
                log_error("cannot try %s: %s", probe->name, strerror(-code));
                return code;
            }
        }
        if (answer->verdict == PROBE_NO) {
            findings->full &= probe->need == NEEDED_BY_NONE;
            findings->basic &= probe->need != NEEDED_BY_BOTH;
        }
    }
    return 0;
}

/* ---- telling ---- */

static const char *verdict_text(enum probe_verdict verdict)
{
    return verdict == PROBE_YES ? "yes" : verdict == PROBE_NO ? "no" : "-";
}

static const char *need_text(enum probe_need need)
{
    return need == NEEDED_BY_BOTH ? "both" : need == NEEDED_BY_FULL ? "full" : "-";
}

/* What is missing only because something else is has no remedy of its own. */
static const char *remedy_of(const struct findings *findings, size_t i)
{
    const char *after = probes[i].after;
    if (findings->answers[i].verdict != PROBE_NO ||
        (after && answer_of(findings, after)->verdict == PROBE_NO)) {
        return NULL;
    }
    return probes[i].remedy;
}

static void print_table(const struct findings *findings)
{
    const struct probe_user *user = &findings->user;
    int width = 0;
    for (size_t i = 0; i < PROBES; i++) {
        int len = (int)strlen(probes[i].name);
        width = len > width ? len : width;
    }
    printf("uid %u: bulkheadd runs in %s mode, as uid %u\n\n", geteuid(),
           user->system ? "system" : "user", user->uid);
    printf("%-*s  %-4s  %-5s  %-38s  %s\n", width, "PROTECTION", "HERE", "LEVEL", "WHAT FOR",
           "FOUND");
    for (size_t i = 0; i < PROBES; i++) {
        const struct probe_answer *answer = &findings->answers[i];
        const char *remedy = remedy_of(findings, i);
        printf("%-*s  %-4s  %-5s  %-*s%s%s\n", width, probes[i].name, verdict_text(answer->verdict),
               need_text(probes[i].need), answer->found[0] ? 38 : 0, probes[i].what_for,
               answer->found[0] ? "  " : "", answer->found);
        if (remedy) {
            printf("    remedy: %s\n", remedy);
        }
    }
    printf("\nlevel full %s here for uid %u; level basic %s\n",
           findings->full ? "works" : "does not work", geteuid(),
           findings->basic ? "works" : "does not");
}

static json_t *row_json(const struct findings *findings, size_t i)
{
    const struct probe *probe = &probes[i];
    const struct probe_answer *answer = &findings->answers[i];
    json_t *here =
        answer->verdict == PROBE_NONE ? json_null() : json_boolean(answer->verdict == PROBE_YES);
    return json_pack("{s:s, s:o, s:s, s:s, s:s, s:s?}", "name", probe->name, "here", here, "level",
                     need_text(probe->need), "what_for", probe->what_for, "found", answer->found,
                     "remedy", remedy_of(findings, i));
}

static int print_json(const struct findings *findings)
{
    json_t *rows = json_array();
    for (size_t i = 0; rows && i < PROBES; i++) {
        if (json_array_append_new(rows, row_json(findings, i)) != 0) {
            json_decref(rows);
            return -ENOMEM;
        }
    }
    json_t *all = json_pack("{s:I, s:s, s:I, s:b, s:b, s:o}", "uid", (json_int_t)geteuid(), "mode",
                            findings->user.system ? "system" : "user", "bulkheadd_uid",
                            (json_int_t)findings->user.uid, "level_full", findings->full,
                            "level_basic", findings->basic, "protections", rows);
    int code = all ? json_dumpf(all, stdout, JSON_COMPACT) : -1;
    putchar('\n');
    json_decref(all);
    return code == 0 ? 0 : -ENOMEM;
}

/* ---- the subcommand ---- */

static int examine(const struct doctor_options *options)
{
    struct findings findings = {0};
    uint64_t first;
    if (parse_range(options->uid_range, &first) != 0) {
        log_error("--uid-range %.100s: not of the form FIRST-LAST with four uids or more",
                  options->uid_range);
        return EXIT_OURS;
    }
    find_user(&findings.user, first);
    if (try_all(&findings) != 0) {
        return EXIT_OURS;
    }
    if (!options->json) {
        print_table(&findings);
    } else if (print_json(&findings) != 0) {
        log_error("out of memory");
        return EXIT_OURS;
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        log_error("cannot write to standard output: %s", strerror(errno));
        return EXIT_OURS;
    }
    return findings.full ? 0 : EXIT_LACKING;
}

static int doctor_with(struct doctor_options *options, int argc, char **argv)
{
    struct option_error error;
    int rest = 0;
    if (option_read_argv(&doctor_table, options, argc, argv, &rest, &error) != 0) {
        log_error("%s; see `bulkhead doctor --help`", error.text);
        return EXIT_OURS;
    }
    if (options->help) {
        return option_print_help(&doctor_table) == 0 ? 0 : EXIT_OURS;
    }
    if (argv[rest]) {
        log_error("\"%.200s\": doctor takes only options; see `bulkhead doctor --help`",
                  argv[rest]);
        return EXIT_OURS;
    }
    return examine(options);
}

int doctor_main(int argc, char **argv)
{
    struct doctor_options options;
    struct option_error error;
    if (option_defaults(&doctor_table, &options, &error) != 0) {
        log_error("%s", error.text);
        return EXIT_OURS;
    }
    int exit_code = doctor_with(&options, argc, argv);
    option_finish(&doctor_table, &options);
    return exit_code;
}
