#!/usr/bin/env bash
# The package script says exactly what is missing, installs only that, and exits 2 where it cannot.
# shellcheck source=tests/check.sh
. "$(dirname "$0")/check.sh"

# A machine on which every package but $absent is installed, with user id $uid.
mkdir "$scratch/bin"
tool() { printf '#!/bin/sh\n%s\n' "$2" >"$scratch/bin/$1" && chmod +x "$scratch/bin/$1"; }
tool dpkg-query 'shift 2; for p; do [ "$p" = "$absent" ] || echo "installed $p"; done'
tool id 'echo "$uid"'
tool sudo 'exit 1'
tool apt-get 'echo "$@" >>"$calls"; exit "$apt_status"'
export calls="$scratch/calls" apt_status=0 uid=0 absent=none
unset QUERN_PACKAGES

packages() { # EXPECTED_STATUS ARGUMENT
    local status=0
    : >"$calls"
    PATH="$scratch/bin:$PATH" "$root/tests/packages.sh" "$2" >"$scratch/out" 2>&1 || status=$?
    cat "$scratch/out"
    [ $status -eq "$1" ]
}

all_present_calls_no_apt() {
    packages 0 test
    [ ! -s "$calls" ]
}
installs_the_missing_one() {
    export absent=zlib1g-dev
    packages 0 build
    grep -q 'update' "$calls"
    grep -q 'install -y --no-install-recommends zlib1g-dev$' "$calls"
}
build_ignores_test_packages() {
    export absent=libcmocka-dev
    packages 0 build
    [ ! -s "$calls" ]
}
without_root_prints_the_list() {
    export absent=libhdf5-dev uid=1000
    packages 2 build
    grep -q 'apt-get install --no-install-recommends libhdf5-dev$' "$scratch/out"
    [ ! -s "$calls" ]
}
failed_install_prints_the_list() {
    export absent=libhdf5-dev apt_status=100
    packages 2 build
    grep -q 'apt-get install --no-install-recommends libhdf5-dev$' "$scratch/out"
}
skipped_on_request() {
    export absent=gcc uid=1000 QUERN_PACKAGES=skip
    packages 0 build
}
wrong_use() { packages 2 everything; }

check all_present_calls_no_apt
check installs_the_missing_one
check build_ignores_test_packages
check without_root_prints_the_list
check failed_install_prints_the_list
check skipped_on_request
check wrong_use
finish
