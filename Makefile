# bulkhead. `make help` lists the targets.

BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
VERSION := 0.1.0

BINDIR     := $(PREFIX)/bin
SBINDIR    := $(PREFIX)/sbin
LIBEXECDIR := $(PREFIX)/libexec/bulkhead
MANDIR     := $(PREFIX)/share/man

# ---- sources, a list for each room ----

COMMON_SRC := \
	common/channel.c common/log.c common/option.c common/option_file.c common/option_value.c \
	common/proto.c common/sha256.c common/shape.c common/units.c

POLICY_SRC := \
	policy/environment.c policy/filter.c policy/landlock.c policy/rlimits.c

SUPERVISOR_SRC := \
	supervisor/auth.c supervisor/cell.c supervisor/command.c supervisor/command_control.c \
	supervisor/command_machine.c supervisor/command_start.c supervisor/cut.c \
	supervisor/dispatch.c supervisor/gate.c supervisor/identity.c supervisor/init.c \
	supervisor/input.c supervisor/link.c supervisor/listen.c supervisor/loop.c \
	supervisor/main.c supervisor/notify.c supervisor/output.c supervisor/program.c \
	supervisor/protections.c supervisor/reexec.c supervisor/ring.c supervisor/runtime.c \
	supervisor/session.c supervisor/settings.c supervisor/spawn.c supervisor/sweep.c \
	supervisor/title.c supervisor/verdict.c supervisor/view.c

FRONTEND_SRC := \
	frontend/arena.c frontend/backlog.c frontend/call.c frontend/conn.c frontend/dialect.c \
	frontend/dialect_msgpack.c frontend/dialect_plain.c frontend/handshake.c \
	frontend/hello.c frontend/http.c frontend/inbox.c frontend/listener.c \
	frontend/lockdown.c frontend/lockdown_filter.c frontend/main.c frontend/message.c \
	frontend/queue.c frontend/report.c frontend/session.c frontend/text.c \
	frontend/upstream.c frontend/utf8.c frontend/ws.c

CLIENT_SRC := \
	client/connection.c client/conversation.c client/doctor.c client/exec.c client/failure.c \
	client/feed.c client/interrupt.c client/locate.c client/main.c client/message.c \
	client/outlet.c client/private.c client/probe.c client/probe_cgroup.c client/probe_kernel.c \
	client/probe_namespaces.c client/request.c client/run.c client/say.c client/status.c \
	client/verdict.c

UNIT_SRC := \
	tests/unit/test_channel.c tests/unit/test_cut.c tests/unit/test_environment.c \
	tests/unit/test_filter.c tests/unit/test_gate.c tests/unit/test_landlock.c \
	tests/unit/test_log.c tests/unit/test_loop.c tests/unit/test_option.c \
	tests/unit/test_proto.c tests/unit/test_proto_corpus.c tests/unit/test_proto_faults.c \
	tests/unit/test_ring.c tests/unit/test_rlimits.c tests/unit/test_sha256.c \
	tests/unit/test_shape.c tests/unit/test_units.c tests/unit/test_verdict.c

MAN := man/bulkhead.1 man/bulkheadd.8 man/bulkhead-frontend.8 man/bulkhead.conf.5 \
	man/bulkhead-protocol.7

PROGRAMS := $(BUILD)/bulkheadd $(BUILD)/bulkhead-frontend $(BUILD)/bulkhead

# ---- compiler ----

PKG_CONFIG ?= pkg-config
# Debian 13 and others call the C library msgpack-c, Debian 12 calls it msgpack.
MSGPACK := $(shell $(PKG_CONFIG) --exists msgpack-c 2>/dev/null && echo msgpack-c || echo msgpack)

SUPERVISOR_PKG := libseccomp libcap $(MSGPACK) inih
FRONTEND_PKG   := libwebsockets libuv jansson $(MSGPACK) libseccomp libcap
CLIENT_PKG     := libwebsockets jansson $(MSGPACK) inih
ALL_PKG        := $(sort $(SUPERVISOR_PKG) $(FRONTEND_PKG) $(CLIENT_PKG))

pkg_libs = $(shell $(PKG_CONFIG) --libs $(1) 2>/dev/null)
cc_has   = $(shell $(CC) -Werror $(1) -x c -c /dev/null -o /dev/null 2>/dev/null && echo $(1))

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla

HARDENING := -fPIE -fstack-protector-strong $(call cc_has,-fstack-clash-protection) \
	$(call cc_has,-fcf-protection) \
	$(or $(call cc_has,-ftrivial-auto-var-init=zero),$(call cc_has,-ftrivial-auto-var-init=pattern))
HARDENING_LINK := -pie -Wl,-z,relro,-z,now,-z,noexecstack

CFLAGS ?= -O2 -g
ifeq ($(SANITIZE),1)
    HARDENING += -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
    HARDENING_LINK += -fsanitize=address,undefined
else
    HARDENING += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
endif
ifeq ($(WERROR),1)
    WARNINGS += -Werror
endif

CPPFLAGS_ALL := -D_GNU_SOURCE -I. -DBULKHEAD_VERSION='"$(VERSION)"' \
	-DBULKHEAD_BINDIR='"$(BINDIR)"' -DBULKHEAD_SBINDIR='"$(SBINDIR)"' \
	-DBULKHEAD_LIBEXECDIR='"$(LIBEXECDIR)"' \
	$(shell $(PKG_CONFIG) --cflags $(ALL_PKG) 2>/dev/null) $(CPPFLAGS)
CFLAGS_ALL  := -std=gnu11 $(WARNINGS) $(HARDENING) $(CFLAGS)
LDFLAGS_ALL := $(HARDENING_LINK) -Wl,--as-needed $(LDFLAGS)

# V=1 shows the commands.
QUIET = $(if $(V),,@printf '  %-4s %s\n' $(1) '$(2:$(BUILD)/%=%)';)

# ---- programs ----

# Each room but its main() is an archive, so that a program takes only what it
# uses and a unit test can take any part.
objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
archive = $(BUILD)/obj/$(1).a

ALL_SRC := $(COMMON_SRC) $(POLICY_SRC) $(SUPERVISOR_SRC) $(FRONTEND_SRC) $(CLIENT_SRC)
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNIT_SRC))

.PHONY: all
all: $(PROGRAMS)

$(call archive,common): $(call objects,$(COMMON_SRC))
$(call archive,policy): $(call objects,$(POLICY_SRC))
$(call archive,supervisor): $(filter-out %/main.o,$(call objects,$(SUPERVISOR_SRC)))

$(BUILD)/obj/%.a:
	@rm -f $@
	$(call QUIET,AR,$@)$(AR) rcsD $@ $^

$(BUILD)/bulkheadd: $(call objects,supervisor/main.c) $(call archive,supervisor) \
		$(call archive,policy) $(call archive,common)
	$(call QUIET,LINK,$@)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(call pkg_libs,$(SUPERVISOR_PKG))

$(BUILD)/bulkhead-frontend: $(call objects,$(FRONTEND_SRC)) $(call archive,common)
	$(call QUIET,LINK,$@)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(call pkg_libs,$(FRONTEND_PKG))

$(BUILD)/bulkhead: $(call objects,$(CLIENT_SRC)) $(call archive,common)
	$(call QUIET,LINK,$@)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(call pkg_libs,$(CLIENT_PKG))

$(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $(call archive,supervisor) $(call archive,policy) \
		$(call archive,common)
	@mkdir -p $(@D)
	$(call QUIET,LINK,$@)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(call pkg_libs,$(SUPERVISOR_PKG) jansson cmocka)

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call QUIET,CC,$<)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# Another compiler, switch or PREFIX makes everything anew.
FLAGS_NOW := $(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL)
$(BUILD)/flags: FORCE
	@$(PKG_CONFIG) --exists --print-errors $(ALL_PKG) || \
		{ echo '`make deps` installs what is missing.' >&2; exit 1; }
	@mkdir -p $(@D)
	@echo "$(subst ",\",$(FLAGS_NOW))" | cmp -s - $@ || echo "$(subst ",\",$(FLAGS_NOW))" > $@
.PHONY: FORCE
FORCE:

# ---- what people type ----

# Whoever did not say how many jobs gets one for each processor.
JOBS = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
SUBMAKE = $(MAKE) $(JOBS) --no-print-directory

.PHONY: deps demo check check-built asan
deps:
	tests/deps test

demo:
	@tests/deps build
	@$(SUBMAKE) all
	@BULKHEAD_BUILD='$(abspath $(BUILD))' tests/demo

check:
	@tests/deps test
	@$(SUBMAKE) check-built

check-built: $(PROGRAMS) $(UNIT_TESTS)
	@BULKHEAD_BUILD='$(abspath $(BUILD))' BULKHEAD_SANITIZED='$(SANITIZE)' tests/run $(if $(T),-k '$(T)') \
		$(UNIT_TESTS)

asan:
	@$(MAKE) --no-print-directory BUILD='$(BUILD)/asan' SANITIZE=1 check

C_FILES   = $(ALL_SRC) $(UNIT_SRC)
H_FILES   = $(wildcard common/*.h policy/*.h supervisor/*.h frontend/*.h client/*.h tests/unit/*.h)
SH_FILES := tests/deps .ci/run tests/demo

.PHONY: lint lint-compilers lint-headers lint-format lint-tidy lint-cppcheck lint-shell lint-man format
lint: lint-compilers lint-headers lint-format lint-tidy lint-cppcheck lint-shell lint-man
	@echo 'lint: clean'

lint-compilers:
	@$(SUBMAKE) BUILD='$(BUILD)/lint-gcc' CC=gcc WERROR=1 all $(UNIT_TESTS:$(BUILD)/%=$(BUILD)/lint-gcc/%)
	@$(SUBMAKE) BUILD='$(BUILD)/lint-clang' CC=clang WERROR=1 all \
		$(UNIT_TESTS:$(BUILD)/%=$(BUILD)/lint-clang/%)

# A header brings what it needs.
lint-headers:
	@for h in $(H_FILES); do \
		$(CC) $(CPPFLAGS_ALL) -std=gnu11 $(WARNINGS) -Werror -fsyntax-only -x c -include $$h /dev/null || \
			exit 1; \
	done

lint-format:
	@clang-format --dry-run -Werror $(C_FILES) $(H_FILES)

lint-tidy:
	@$(SUBMAKE) $(C_FILES:%=$(BUILD)/tidy/%)

$(BUILD)/tidy/%: FORCE
	@clang-tidy --quiet $* -- $(CPPFLAGS_ALL) -std=gnu11 2>/dev/null

lint-cppcheck:
	@cppcheck --quiet --std=c11 -j 2 --enable=warning,performance,portability --inline-suppr \
		--suppress=missingIncludeSystem --error-exitcode=1 -D_GNU_SOURCE -I. $(C_FILES)

lint-shell:
	@shellcheck $(SH_FILES)

lint-man:
	@mandoc -T lint -W warning $(MAN)

format:
	clang-format -i $(C_FILES) $(H_FILES)

.PHONY: install uninstall dist clean help
install: all
	install -d '$(DESTDIR)$(BINDIR)' '$(DESTDIR)$(SBINDIR)' '$(DESTDIR)$(LIBEXECDIR)'
	install -m 755 $(BUILD)/bulkhead '$(DESTDIR)$(BINDIR)/bulkhead'
	install -m 755 $(BUILD)/bulkheadd '$(DESTDIR)$(SBINDIR)/bulkheadd'
	install -m 755 $(BUILD)/bulkhead-frontend '$(DESTDIR)$(LIBEXECDIR)/bulkhead-frontend'
	for page in $(MAN); do \
		install -D -m 644 "$$page" "$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}"; \
	done

uninstall:
	rm -f '$(DESTDIR)$(BINDIR)/bulkhead' '$(DESTDIR)$(SBINDIR)/bulkheadd'
	rm -f '$(DESTDIR)$(LIBEXECDIR)/bulkhead-frontend'
	-rmdir '$(DESTDIR)$(LIBEXECDIR)'
	for page in $(MAN); do rm -f "$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}"; done

dist:
	git archive --prefix=bulkhead-$(VERSION)/ -o bulkhead-$(VERSION).tar.gz HEAD

clean:
	rm -rf '$(BUILD)'

help:
	@echo 'make             build everything into $(BUILD)/'
	@echo 'make deps        install what building and testing need'
	@echo 'make demo        see it work'
	@echo 'make check       run every test; T=text: only those with text in their name'
	@echo 'make asan        the same under address and undefined behaviour sanitizers'
	@echo 'make lint        compilers, clang-tidy, cppcheck, shellcheck, mandoc, clang-format'
	@echo 'make format      let clang-format put the sources in order'
	@echo 'make install     into PREFIX ($(PREFIX)), below DESTDIR'
	@echo 'make uninstall, make dist, make clean'
	@echo 'Switches: BUILD=folder CC=compiler WERROR=1 SANITIZE=1 V=1'

.SECONDARY:
-include $(patsubst %.o,%.d,$(call objects,$(ALL_SRC) $(UNIT_SRC)))
