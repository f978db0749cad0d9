#!/bin/busybox sh
# The first process of a kernel under test: runs what is in /tests, says what came of it, and turns the machine off.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
ip link set lo up
ulimit -n 20000
. /settings
echo "kernel: $(uname -r)"
modprobe tls && echo "module: tls"
[ -z "$expects" ] || export UPROAR_TEST_KERNEL_TLS=1

# attempt NAME PROGRAM ARGUMENT...: runs a test; what it says is shown if it fails.
attempt() {
    name=$1
    shift
    if timeout "$limit" "$@" >/tmp/log 2>&1; then
        outcome=PASS
    else
        outcome=FAIL
        sed -n '/^failures:/,$p; /panicked/p' /tmp/log | tail -n 80
        tail -n 5 /tmp/log
    fi
    echo "OUTCOME $outcome $name: $(sed -n 's/^test result: //p' /tmp/log | tail -n 1)"
}

tls_sockets() { sed -n "s/^$1[^0-9]*//p" /proc/net/tls_stat 2>/dev/null; }

for test in $tests; do
    case $test in
        lib) attempt "the ring" /tests/lib --test-threads=2 ring:: ;;
        tls | kernel_tls)
            attempt "$test" "/tests/$test" --test-threads=2 $filter
            [ "$test" = kernel_tls ] || UPROAR_TEST_TLS_KERNEL=off attempt "$test, without the kernel's" "/tests/$test" --test-threads=2 $filter
            ;;
        *) attempt "$test" "/tests/$test" --test-threads=2 $filter ;;
    esac
done
if [ -n "$expects" ]; then
    sent=$(tls_sockets TlsTxSw) received=$(tls_sockets TlsRxSw)
    [ "${sent:-0}" -gt 0 ] && [ "${received:-0}" -gt 0 ] && outcome=PASS || outcome=FAIL
    echo "OUTCOME $outcome the kernel has sealed for $sent sockets and opened for $received"
fi
[ -z "${measure:-}" ] || /tests/kernel_tls --ignored --nocapture --test-threads=1
echo "OUTCOME PASS all tests were run"
poweroff -f
