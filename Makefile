# tunn: `make demo` shows the main job, `make test` passes the tests; both install
# what is missing from Debian's packages first. `make help` lists the rest.

FLAVOUR  ?= release
CC       ?= gcc
B        := build/$(FLAVOUR)
PREFIX   ?= /usr/local
UNITDIR  ?= $(PREFIX)/lib/systemd/system
VERSION  := 0.1.0
JOBS     ?= 4
Q        := $(if $(V),,@)

LIBS     := libnghttp2 libprotobuf-c openssl libsodium libevent_core libevent_pthreads yaml-0.1 sqlite3 libseccomp libcap-ng zlib jansson
PKGS     := gcc make pkg-config ca-certificates libnghttp2-dev libprotobuf-c-dev protobuf-c-compiler \
            protobuf-compiler libssl-dev libsodium-dev libevent-dev libyaml-dev libsqlite3-dev libhttp-parser-dev libwslay-dev \
            python3 python3-protobuf libseccomp-dev libcap-ng-dev zlib1g-dev libjansson-dev
PKGS_RUN  := iputils-ping iproute2 iptables procps wireguard-go wireguard-tools openresolv
PKGS_TEST := libcmocka-dev $(PKGS_RUN) python3-pytest python3-pytest-xdist python3-grpcio protobuf-compiler-grpc python3-h2 python3-nacl \
             openssl squid iperf3 man-db systemd python3-seccomp strace libfaketime curl binutils sqlite3 python3-prometheus-client
PKGS_PAGE := chromium chromium-driver python3-selenium fonts-inter pngquant
NEED     := tests/support/need

CFLAGS   ?= -O2 -g
WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla $(if $(CI),-Werror)
HARDEN   := -fPIE -fstack-protector-strong -fstack-clash-protection -fcf-protection
HARDLINK := -pie -Wl,-z,relro,-z,now,-z,noexecstack
ifeq ($(FLAVOUR),asan)
  SAN := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
endif
ifeq ($(FLAVOUR),tsan)
  SAN := -fsanitize=thread
endif
ifeq ($(FLAVOUR),fuzz)
  SAN := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
  CC  := clang
endif
ifeq ($(FLAVOUR),unbatched)
  CFLAGS += -DTUNN_UNBATCHED
endif
# The run-time of a sanitizer needs other system calls than the program.
ifneq ($(SAN),)
  SAN += -DTUNN_SANITIZED
  ifeq ($(MAKELEVEL),1)
    $(info $(FLAVOUR): built without the system call filter)
  endif
endif
FORTIFY  := $(if $(SAN),,-D_FORTIFY_SOURCE=2)
ALL_CFLAGS = -std=gnu11 $(CFLAGS) $(WARN) $(HARDEN) $(FORTIFY) $(SAN) -D_GNU_SOURCE \
             -DTUNN_VERSION='"$(VERSION)"' -I. -Ibuild/gen -MMD -MP -pthread $(shell pkg-config --cflags $(LIBS))
LDLIBS   = $(shell pkg-config --libs $(LIBS)) -lhttp_parser -lwslay -lm

SRC      := $(wildcard common/*.c common/*/*.c server/*.c server/*/*.c client/*.c)
PROTO    := $(wildcard proto/*.proto)
GEN      := $(PROTO:proto/%.proto=build/gen/%.pb-c.c) build/gen/descriptors.c
OBJ      := $(SRC:%.c=$(B)/%.o) $(GEN:build/%.c=$(B)/%.o)
UNIT     := $(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/*_test.c tests/unit/*/*_test.c tests/unit/*/*/*_test.c))
FUZZ     := $(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
SUPPORT  := $(patsubst tests/support/%.c,$(B)/support/%,$(wildcard tests/support/*.c))
# Every unit test that opens no socket (docs/TESTING.md).
NOMEM_IN := base/% transport/% wire/% client/backoff% client/derp_map% client/regions% client/flow% client/options% client/parked% \
            client/report% client/retry% client/uplink% link_queue% net/addr% net/loop% net/mailbox% net/proxy% \
            net/route% net/tls% server/first% server/map_node% server/options% server/state% server/accounts/account% server/accounts/journal% \
            server/accounts/ledger% server/accounts/tiers% server/admin/admin_test server/admin/page% server/admin/status% server/commands/% \
            server/login/% server/relay/admit% server/relay/native% server/relay/penalty% server/relay/router% server/relay/session%
NOMEM    := $(patsubst %,$(B)/nomem/unit/%,$(filter $(NOMEM_IN),$(UNIT:$(B)/unit/%=%))) \
            $(patsubst tests/nomem/scene_%.c,$(B)/nomem/%,$(wildcard tests/nomem/scene_*.c)) \
            $(patsubst %,$(B)/nomem/fuzz/%,server client derp derp_server derp_client h2 msg)
BENCH    := $(patsubst tests/bench/%.c,$(B)/bench/%,$(wildcard tests/bench/*.c))

.PHONY: all debug demo test unit e2e interop screenshots fuzz fuzz-replay nomem nomem-sample soak asan tsan bench bench-instructions lint format install \
        uninstall clean help deps test-deps programs built suite probe
.DELETE_ON_ERROR:
.SECONDARY:

all: build/nghttp2-probed $(B)/tunn
programs: all $(SUPPORT) $(B)/nomem/preload.so

# -- what a fresh machine needs
deps: ;      $(Q)$(NEED) $(PKGS)
demo-deps: ; $(Q)$(NEED) $(PKGS) $(PKGS_RUN)
test-deps: ; $(Q)$(NEED) $(PKGS) $(PKGS_TEST)

# -- the program
build/gen/%.pb-c.c: proto/%.proto
	$(Q)mkdir -p build/gen/proto
	$(Q)sed -E 's/^( *)(repeated )?string /\1\2bytes /; s/^( *)uint32 /\1uint64 /' $< > build/gen/proto/$*.proto
	$(Q)protoc-c --proto_path=build/gen/proto --c_out=build/gen build/gen/proto/$*.proto
# What reflection tells: the protos as they are, not their copies for protobuf-c.
build/gen/descriptors.c: proto/descriptors $(PROTO)
	$(Q)mkdir -p build/gen/proto
	$(Q)sed 's/grpc\.reflection\.v1/&alpha/' proto/reflection.proto > build/gen/proto/reflection_v1alpha.proto
	$(Q)protoc -Iproto -Ibuild/gen/proto --include_imports --descriptor_set_out=/dev/stdout \
	  $(notdir $(PROTO)) reflection_v1alpha.proto | /usr/bin/python3 $< > $@
$(SRC:%.c=$(B)/%.o): $(GEN)
$(B)/server/admin/page.o: $(wildcard server/admin/page/*)
$(B)/gen/%.o: build/gen/%.c
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(filter-out -Wmissing-prototypes,$(ALL_CFLAGS)) -Wno-missing-braces -c $< -o $@
$(B)/%.o: %.c
	@$(if $(V),,echo "  CC   $<")
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c $< -o $@
$(B)/libtunn.a: $(OBJ)
	$(Q)rm -f $@ && ar rcs $@ $^
$(B)/tunn: $(B)/tunn.o $(B)/libtunn.a
	@$(if $(V),,echo "  LINK $@")
	$(Q)$(CC) $(CFLAGS) $(SAN) $(HARDLINK) -pthread $^ $(LDLIBS) -o $@

# nghttp2 before Debian's 1.52.0-1+deb12u3 can be aborted from afar (CVE-2026-27135); the
# version number does not tell, so the build replays the abort in a child process.
probe: build/nghttp2-probed
build/nghttp2-probed: tests/support/probe/nghttp2_probe.c
	$(Q)mkdir -p build
	$(Q)$(CC) -O1 $< $$(pkg-config --cflags --libs libnghttp2) -o build/nghttp2-probe
	$(Q)build/nghttp2-probe && touch $@

# -- tests
$(B)/unit/%: tests/unit/%.c $(B)/libtunn.a
	@$(if $(V),,echo "  TEST $*")
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(HARDLINK) $< $(B)/libtunn.a $(LDLIBS) -lcmocka -o $@
MUTATORS := tests/fuzz/frames.c tests/fuzz/derp_script.c
NOMEM_O   = $(patsubst %,$(B)/tests/nomem/%.o,inject $(1))
NOMEM_LD  = $(CC) $(ALL_CFLAGS) -DUNTIL_LIMIT_MS=500 $(HARDLINK) $(filter %.c %.o %.a,$^) $(LDLIBS) -o $@
$(B)/nomem/preload.so: tests/nomem/preload.c tests/nomem/inject.c
	$(Q)mkdir -p $(@D) && $(CC) -std=gnu11 -O2 -D_GNU_SOURCE -I. -fPIC -shared $^ -o $@
$(B)/nomem/unit/%: tests/unit/%.c $(call NOMEM_O,units) $(B)/libtunn.a
	@$(if $(V),,echo "  NOMEM $*")
	$(Q)mkdir -p $(@D) && $(NOMEM_LD) -lcmocka
$(B)/nomem/fuzz/%: tests/fuzz/fuzz_%.c $(MUTATORS) tests/fuzz/bytes.c $(call NOMEM_O,scene corpus) $(B)/libtunn.a
	$(Q)mkdir -p $(@D) && $(NOMEM_LD)
$(B)/nomem/%: tests/nomem/scene_%.c $(call NOMEM_O,scene virtual_time) $(B)/libtunn.a
	$(Q)mkdir -p $(@D) && $(NOMEM_LD)
$(B)/support/%: tests/support/%.c $(B)/libtunn.a
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(HARDLINK) $< $(B)/libtunn.a $(LDLIBS) -o $@
$(B)/bench/%: tests/bench/%.c $(B)/libtunn.a
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(HARDLINK) $< $(B)/libtunn.a $(LDLIBS) -o $@
$(B)/bench/%.so: tests/bench/preload/%.c
	$(Q)mkdir -p $(@D) && $(CC) -std=gnu11 -O2 -D_GNU_SOURCE -fPIC -shared $^ -o $@
$(B)/fuzz/%: tests/fuzz/%.c tests/h2_frames.h tests/fuzz/frames.h $(MUTATORS) tests/fuzz/main.c tests/fuzz/bytes.c $(B)/libtunn.a
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(HARDLINK) $< $(MUTATORS) \
	  $(if $(filter fuzz,$(FLAVOUR)),-fsanitize=fuzzer,tests/fuzz/main.c tests/fuzz/bytes.c) $(B)/libtunn.a $(LDLIBS) -o $@

# `tunn server` that also has the service of gRPC's interop clients, from Debian's grpc-proto.
TESTPROTO := build/interop/gen/grpc/testing/messages.pb-c.c
$(TESTPROTO): /usr/share/grpc-proto/grpc/testing/messages.proto
	$(Q)mkdir -p build/interop/gen
	$(Q)protoc-c -I/usr/share/grpc-proto --c_out=build/interop/gen $<
$(B)/interop/tunn: tests/interop/test_service.c $(TESTPROTO) $(B)/tunn.o $(B)/libtunn.a
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(filter-out -Wmissing-prototypes -MMD -MP,$(ALL_CFLAGS)) -Ibuild/interop/gen $(HARDLINK) $^ $(LDLIBS) -o $@

unit: $(UNIT)
	$(Q)tests/support/run-unit $(UNIT)
nomem-sample: $(NOMEM)
	$(Q)tests/nomem/run $(NOMEM)
# every n, but of a test no longer than MS (0: however long)
nomem: ; $(Q)NOMEM_MS=$(or $(MS),60000) $(MAKE) --no-print-directory nomem-sample
fuzz-replay: $(FUZZ)
	$(Q)for f in $(FUZZ); do t=$${f##*/fuzz_}; $$f tests/fuzz/corpus/$$t || exit 1; done
# four side by side: nearly all of their time they wait
e2e: programs
	$(Q)TUNN_BUILD=$(B) /usr/bin/python3 -m pytest -q -p no:cacheprovider -n $(JOBS) tests/e2e $(PYTEST_ARGS)
interop: test-deps
	$(Q)$(NEED) grpc-proto $(PKGS_PAGE)
	$(Q)$(MAKE) --no-print-directory programs $(B)/interop/tunn
	$(Q)TUNN_BUILD=$(B) JOBS=$(JOBS) tests/interop/run $(PYTEST_ARGS)
# the pictures of the status page in docs/
screenshots: test-deps
	$(Q)$(NEED) $(PKGS_PAGE)
	$(Q)$(MAKE) --no-print-directory programs
	$(Q)TUNN_BUILD=$(B) TUNN_SHOTS=docs /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/interop/test_page.py -k pictures
test: test-deps
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) built
	$(Q)$(MAKE) --no-print-directory suite
built: programs $(UNIT) $(FUZZ) $(NOMEM)
suite: all lint unit fuzz-replay nomem-sample e2e
lint:
	$(Q)tests/lint/run
demo: demo-deps
	$(Q)$(MAKE) --no-print-directory all $(B)/support/udpgen
	$(Q)TUNN_BUILD=$(B) tests/support/demo
bench: test-deps
	$(Q)$(MAKE) --no-print-directory all $(SUPPORT) $(BENCH) $(B)/bench/allocs.so $(B)/bench/owners.so
	$(Q)$(MAKE) --no-print-directory FLAVOUR=unbatched all
	$(Q)TUNN_BUILD=$(B) /usr/bin/python3 tests/bench/run.py
# instructions per datagram beside the record; RECORD=1 writes it anew
bench-instructions: test-deps
	$(Q)$(NEED) valgrind
	$(Q)$(MAKE) --no-print-directory $(B)/bench/relay_path
	$(Q)TUNN_BUILD=$(B) /usr/bin/python3 tests/bench/instructions.py
# make soak MINUTES=30 [FLAVOUR=asan CC=clang] [SEED=N]; then fifty kills, then a minute at full rate of each kind of end
soak: test-deps
	$(Q)$(MAKE) --no-print-directory programs
	$(Q)TUNN_BUILD=$(B) MINUTES=$(MINUTES) SEED=$(SEED) /usr/bin/python3 tests/soak/run.py
	$(Q)TUNN_BUILD=$(B) SEED=$(SEED) tests/soak/kills.py
	$(Q)TUNN_BUILD=$(B) FULL_RATE_SECONDS=60 /usr/bin/python3 -m pytest -q -p no:cacheprovider tests/e2e/test_herd.py -k full_rate
asan:
	$(Q)$(MAKE) --no-print-directory FLAVOUR=asan CC=clang -j$(shell nproc) built
	$(Q)$(MAKE) --no-print-directory FLAVOUR=asan CC=clang all unit fuzz-replay nomem-sample e2e
tsan:  ; $(Q)$(MAKE) --no-print-directory FLAVOUR=tsan CC=clang unit e2e
debug: ; $(Q)$(MAKE) --no-print-directory FLAVOUR=debug CFLAGS='-O0 -g3' all
# make fuzz T=msg S=60: one target live, for S seconds
fuzz:
	$(Q)$(NEED) clang libclang-rt-14-dev
	$(Q)$(MAKE) --no-print-directory FLAVOUR=fuzz build/fuzz/fuzz/fuzz_$(T)
	$(Q)mkdir -p build/fuzz/new/$(T)
	$(Q)build/fuzz/fuzz/fuzz_$(T) -max_total_time=$(or $(S),60) -max_len=30000 build/fuzz/new/$(T) tests/fuzz/corpus/$(T)
format: ; $(Q)clang-format -i $$(git ls-files '*.c' '*.h')

# -- installing
install: all
	install -Dm755 $(B)/tunn $(DESTDIR)$(PREFIX)/bin/tunn
	install -Dm644 docs/tunn.1 $(DESTDIR)$(PREFIX)/share/man/man1/tunn.1
	install -d $(DESTDIR)$(UNITDIR)
	[ -e $(DESTDIR)/etc/tunn/server.yaml ] || install -Dm644 docs/systemd/server.yaml $(DESTDIR)/etc/tunn/server.yaml
	install -Dm644 docs/systemd/tunn-server.socket $(DESTDIR)$(UNITDIR)/tunn-server.socket
	sed 's|@PREFIX@|$(PREFIX)|g' docs/systemd/tunn-server.service > $(DESTDIR)$(UNITDIR)/tunn-server.service
	sed 's|@PREFIX@|$(PREFIX)|g' docs/systemd/tunn-relay@.service > $(DESTDIR)$(UNITDIR)/tunn-relay@.service
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/tunn $(DESTDIR)$(PREFIX)/share/man/man1/tunn.1 \
	  $(DESTDIR)$(UNITDIR)/tunn-server.service $(DESTDIR)$(UNITDIR)/tunn-server.socket $(DESTDIR)$(UNITDIR)/tunn-relay@.service
clean: ; rm -rf build
help:
	@sed -nE 's/^([a-z-]+):.*/  make \1/p' Makefile | sort -u

-include $(wildcard $(B)/tests/nomem/*.d $(B)/nomem/*.d) $(NOMEM:=.d) $(OBJ:.o=.d) $(B)/tunn.d $(UNIT:=.d) $(FUZZ:=.d) $(SUPPORT:=.d) $(BENCH:=.d)
