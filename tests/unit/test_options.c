// SPDX-License-Identifier: Apache-2.0
//
// The command line: each option, each sub-option, and each way to get one wrong, with the word that
// the complaint must name.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/options.h"

#define ARGS_MAX 10
#define MIB      (1ull << 20)
#define GIB      (1ull << 30)

static int parse(struct options *options, const char *const *arguments, struct veneer_error *error)
{
	char *argv[ARGS_MAX + 2] = {(char *)(uintptr_t) "veneer"};
	int argc = 1;

	while (argc <= ARGS_MAX && arguments[argc - 1]) {
		argv[argc] = (char *)(uintptr_t)arguments[argc - 1];
		argc++;
	}
	return options_parse(options, argc, argv, error);
}

#define WORDS_8  "1,2,3,4,5,6,7,8,"
#define WORDS_64 WORDS_8 WORDS_8 WORDS_8 WORDS_8 WORDS_8 WORDS_8 WORDS_8 WORDS_8

struct bad {
	const char *arguments[ARGS_MAX];
	const char *names; // what the line must contain
	const char *offers; // and what it must say would be right
};

static const struct bad bad_lines[] = {
	{{""}, "''", "'veneer help' lists them"},
	{{"walk"}, "'walk'", "'veneer help' lists them"},
	{{"rnu"}, "'rnu'", "did you mean 'run'?"},
	{{"lst"}, "'lst'", "did you mean 'list'?"},
	{{"doc"}, "'doc'", "did you mean 'doctor'?"},
	{{"--kernel"}, "'--kernel'", "'veneer help'"},
	{{"--help", "walk"}, "'walk'", "'veneer help' lists them"},
	{{"help", "stat"}, "'stat'", "did you mean 'stats'?"},
	{{"help", "run", "x"}, "'x'", "one command"},
	{{"version", "x"}, "'x'", "nothing"},
	{{"--version", "x"}, "'x'", "--version"},
	{{"run", "--bogus"}, "'--bogus'", "'veneer help run'"},
	{{"run", "--bogus=1"}, "'--bogus=1'", "'veneer help run'"},
	{{"run", "-z"}, "'-z'", "'veneer help run'"},
	{{"run", "-?"}, "'-?'", "'veneer help run'"},
	{{"run", "--ker", "x"}, "'--ker'", "--kernel"},
	{{"run", "--s", "none"}, "'--s'", "--serial"},
	{{"run", "--memroy", "1G"}, "'--memroy'", "did you mean '--memory'?"},
	{{"run", "--dsik=x"}, "'--dsik=x'", "did you mean '--disk'?"},
	{{"run", "memory", "1G"}, "'memory'", "did you mean '--memory'?"},
	{{"run", "-hda", "foo"}, "'-hda'", "'veneer help run'"},
	{{"run", "-smp", "4"}, "'-smp'", "'veneer help run'"},
	{{"run", "-kernel", "x"}, "'-kernel'", "did you mean '--kernel'?"},
	{{"run", "-m", "1G", "-cpu", "host"}, "'-cpu'", "did you mean '--cpu'?"},
	{{"run", "--reboot=yes"}, "'--reboot=yes'", "no value"},
	{{"run", "--help=me"}, "'--help=me'", "no value"},
	{{"run", "--kernel"}, "'--kernel'", "value"},
	{{"run", "-m"}, "'-m'", "value"},
	{{"run", "--timeout"}, "'--timeout'", "value"},
	{{"run", "vmlinuz"}, "'vmlinuz'", "'veneer help run'"},
	{{"run", "-c", "2", "vmlinuz"}, "'vmlinuz'", "'veneer help run'"},
	{{"run", "--", "x"}, "'x'", "'veneer help run'"},
	{{"doctor", "--bogus"}, "'--bogus'", "'veneer help doctor'"},
	{{"doctor", "-m", "1G"}, "'-m'", "'veneer help doctor'"},
	{{"doctor", "--cpu", "1"}, "'--cpu'", "did you mean '--cpus'?"},
	{{"doctor", "--js"}, "'--js'", "--json"},
	{{"doctor", "--json=1"}, "'--json=1'", "no value"},
	{{"doctor", "run"}, "'run'", "'veneer help doctor'"},
	{{"doctor", "--disk"}, "'--disk'", "value"},
	{{"doctor", "--disk", ""}, "''", "path"},
	{{"doctor", "--disk", "a,fast"}, "'fast'", "'veneer help run'"},
	{{"doctor", "--cpus", ""}, "''", "0-3,8"},
	{{"doctor", "--cpus", "all"}, "'all'", "0-3,8"},
	{{"doctor", "--cpus", "0-1024"}, "'0-1024'", "does not have: 0"},
	{{"doctor", "--cpus", "3-1"}, "'3-1'", "0-3,8"},
	{{"run", "--bo\ngus"}, "'--bo?gus'", "'veneer help run'"},

	{{"run", "--name", ""}, "''", "letters"},
	{{"run", "--name", "a/b"}, "'a/b'", "letters"},
	{{"run", "--name", "-a"}, "'-a'", "beginning"},
	{{"run", "--name", ".a"}, "'.a'", "beginning"},
	{{"run", "--name", "123"}, "'123'", "letter"},
	{{"run", "--name", "a\"b"}, "'a\"b'", "letters"},
	{{"run", "--name", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
		"--name", "1 to 64"},
	{{"run", "--stats=xml"}, "'xml'", "text nor json"},
	{{"run", "--stats", "json"}, "'json'", "'veneer help run'"},
	{{"list", "x"}, "'x'", "nothing"},
	{{"stats", "--json"}, "--json", "veneer list"},
	{{"stats", "a", "b"}, "'b'", "one guest"},
	{{"stats", "a", "--xml"}, "'--xml'", "'veneer help stats'"},
	{{"stats", "a", "--js"}, "'--js'", "--json"},
	{{"stats", "a", "--watch=0"}, "'0'", "--watch"},
	{{"stats", "a", "--watch=x"}, "'x'", "--watch"},
	{{"stats", "a", "--output"}, "'--output'", "value"},
	{{"stats", "a", "--output="}, "''", "path"},
	{{"stats", "a", "--json=1"}, "'--json=1'", "no value"},
	{{"stats", "a", "-k"}, "'-k'", "'veneer help stats'"},

	{{"run", "-c", ""}, "''", "1 to 64"},
	{{"run", "-c", "0"}, "'0'", "1 to 64"},
	{{"run", "-c", "65"}, "'65'", "1 to 64"},
	{{"run", "-c", "-1"}, "'-1'", "1 to 64"},
	{{"run", "-c", "+1"}, "'+1'", "1 to 64"},
	{{"run", "-c", " 1"}, "' 1'", "1 to 64"},
	{{"run", "-c", "1x"}, "'1x'", "1 to 64"},
	{{"run", "-c", "0x2"}, "'0x2'", "1 to 64"},
	{{"run", "-c", "2.0"}, "'2.0'", "1 to 64"},
	{{"run", "-c", "18446744073709551617"}, "'18446744073709551617'", "1 to 64"},
	{{"run", "-c", "1,"}, "''", "'veneer help run'"},
	{{"run", "-c", "1,pit"}, "'pit'", "did you mean 'pit=on|off'?"},
	{{"run", "-c", "1,pit=maybe"}, "'maybe'", "on nor off"},
	{{"run", "-c", "1,hpet=on"}, "'hpet=on'", "'veneer help run'"},
	{{"run", "-c", "1,pti=on"}, "'pti=on'", "did you mean 'pit=on|off'?"},
	{{"run", "-c", "1,idle"}, "'idle'", "idle=halt|poll|mwait"},
	{{"run", "-c", "1,idle="}, "''", "halt, poll or mwait"},
	{{"run", "-c", "1,idle=spin"}, "'spin'", "halt, poll or mwait"},
	{{"run", "-c", "1,halt-poll-ns="}, "''", "nanoseconds"},
	{{"run", "-c", "1,halt-poll-ns=-1"}, "'-1'", "nanoseconds"},
	{{"run", "-c", "1,halt-poll-ns=4294967296"}, "'4294967296'", "4294967295"},
	{{"run", "-c", "1,halt-poll-ns=0,idle=poll"}, "halt-poll-ns", "idle=halt"},
	{{"run", "-c", "1,idle=mwait,halt-poll-ns=9"}, "halt-poll-ns", "idle=halt"},
	{{"run", "-c", "4,topology=1x1x2"}, "'1x1x2'", "1x1x4x2"},
	{{"run", "-c", "4,topology=1x1x2x2x1"}, "'1x1x2x2x1'", "THREADS"},
	{{"run", "-c", "4,topology=1x0x2x2"}, "'1x0x2x2'", "DIES"},
	{{"run", "-c", "4,topology=1x1x65536x2"}, "'1x1x65536x2'", "CORES"},
	{{"run", "-c", "4,topology="}, "''", "SOCKETS"},
	{{"run", "-c", "4,topology=2x1x2x2"}, "2x1x2x2", "makes 8 CPUs"},
	{{"run", "-c", "4,topology=65535x65535x65535x65535"}, "18445618199572250625", "not 4"},
	{{"run", "-c", "pit=on"}, "'pit=on'", "1 to 64"},
	{{"run", "-c", "2,pin"}, "'pin'", "pin=LIST|auto"},
	{{"run", "-c", "2,pin="}, "''", "such as 0-3,8"},
	{{"run", "-c", "2,pin=any"}, "'any'", "such as 0-3,8"},
	{{"run", "-c", "2,pin=automatic"}, "'automatic'", "such as 0-3,8"},
	{{"run", "-c", "2,pin=0-"}, "'0-'", "such as 0-3,8"},
	{{"run", "-c", "2,pin=1-0"}, "'1-0'", "such as 0-3,8"},
	{{"run", "-c", "2,pin=0,1024"}, "pin='1024'", "does not have: 0"},
	{{"run", "-c", "2,pin=0-2000"}, "pin='0-2000'", "are online"},
	{{"run", "-c", "2,pin=0:1024,1:0"}, "'1024'", "does not have: 0"},
	{{"run", "-c", "2,pin=1024:0"}, "vCPUs '1024'", "0 to 1"},
	{{"run", "-c", "2,iothreads=1024"}, "iothreads='1024'", "does not have: 0"},
	{{"run", "-c", "2,vmm=99999999999999999999"}, "vmm='99999999999999999999'", "are online"},
	{{"run", "-c", "1,pin=0,"}, "''", "'veneer help run'"},
	{{"run", "-c", "2,pin=0"}, "pin= lists 1", "2 are needed"},
	{{"run", "-c", "2,pin=0-1,8"}, "pin= lists 3", "2 are needed"},
	{{"run", "-c", "2,pin=0:1,1"}, "'1'", "such as 0:2-3"},
	{{"run", "-c", "2,pin=0:"}, "''", "such as 0-3,8"},
	{{"run", "-c", "2,pin=:1"}, "''", "no vCPU"},
	{{"run", "-c", "2,pin=x:1"}, "'x'", "no vCPU"},
	{{"run", "-c", "2,pin=0:1:2"}, "'1:2'", "such as 0-3,8"},
	{{"run", "-c", "2,pin=0-2:1"}, "vCPU 2", "0 to 1"},
	{{"run", "-c", "2,iothreads"}, "'iothreads'", "iothreads=LIST"},
	{{"run", "-c", "2,iothreads="}, "iothreads=''", "such as 0-3,8"},
	{{"run", "-c", "2,iothreads=x"}, "iothreads='x'", "such as 0-3,8"},
	{{"run", "-c", "2,vmm=0,1x"}, "vmm='0,1x'", "such as 0-3,8"},
	{{"run", "-c", "2,0"}, "'2,0'", "1 to 64"},
	{{"run", "-c", "2,sched=fifo"}, "'fifo'", "fifo:PRIORITY"},
	{{"run", "-c", "2,sched=fifo:"}, "'fifo:'", "fifo:PRIORITY"},
	{{"run", "-c", "2,sched=fifo:0"}, "'fifo:0'", "from fifo:1 to fifo:99"},
	{{"run", "-c", "2,sched=fifo:100"}, "'fifo:100'", "from fifo:1 to fifo:99"},
	{{"run", "-c", "2,sched=rr:1"}, "'rr:1'", "fifo:PRIORITY"},
	{{"run", "--dry-run=yes"}, "'--dry-run=yes'", "no value"},

	{{"run", "--cpu", ""}, "''", "host or x86-64-v3"},
	{{"run", "--cpu", "+avx"}, "'+avx'", "? lists them"},
	{{"run", "--cpu", "host,avx"}, "'avx'", "+ or - before it"},
	{{"run", "--cpu", "host,"}, "''", "+ or - before it"},
	{{"run", "--cpu", "host,-"}, "'-'", "+ or - before it"},
	{{"run", "--cpu", "host,tsc-khz=0"}, "'0'", "kHz"},
	{{"run", "--cpu", "host,tsc-khz=2147483648"}, "'2147483648'", "kHz"},
	{{"run", "--cpu", "host,tsc-khz=2GHz"}, "'2GHz'", "kHz"},

	{{"run", "-m", ""}, "''", "K, M, G or T"},
	{{"run", "-m", "M"}, "'M'", "K, M, G or T"},
	{{"run", "-m", "512"}, "'512'", "K, M, G or T"},
	{{"run", "-m", "0"}, "'0'", "K, M, G or T"},
	{{"run", "-m", "1023K"}, "'1023K'", "1M"},
	{{"run", "-m", "-1G"}, "'-1G'", "K, M, G or T"},
	{{"run", "-m", "1.5G"}, "'1.5G'", "K, M, G or T"},
	{{"run", "-m", "1P"}, "'1P'", "K, M, G or T"},
	{{"run", "-m", "1B"}, "'1B'", "K, M, G or T"},
	{{"run", "-m", "1GBi"}, "'1GBi'", "K, M, G or T"},
	{{"run", "-m", "1GiBs"}, "'1GiBs'", "K, M, G or T"},
	{{"run", "-m", "16777216T"}, "'16777216T'", "64 bits"},
	{{"run", "-m", "1G M"}, "'1G M'", "K, M, G or T"},
	{{"run", "-m", "18446744073709551616"}, "'18446744073709551616'", "64 bits"},
	{{"run", "-m", "17179869184G"}, "'17179869184G'", "64 bits"},
	{{"run", "-m", "1G,"}, "''", "'veneer help run'"},
	{{"run", "-m", "1G,huge"}, "'huge'", "did you mean 'hugepages=2M|1G'?"},
	{{"run", "-m", "1G,hugepages"}, "'hugepages'", "hugepages=2M|1G"},
	{{"run", "-m", "1G,hugepages=4K"}, "'4K'", "2M nor 1G"},
	{{"run", "-m", "1G,node"}, "'node'", "node=N"},
	{{"run", "-m", "1G,node="}, "''", "NUMA node"},
	{{"run", "-m", "1G,node=-1"}, "'-1'", "NUMA node"},
	{{"run", "-m", "1G,node=one"}, "'one'", "NUMA node"},
	{{"run", "-m", "1G,node=2147483648"}, "'2147483648'", "no such NUMA node"},
	{{"run", "-m", "1G,prealloc=on"}, "'prealloc=on'", "prealloc"},
	{{"run", "-m", "1G,lock=off"}, "'lock=off'", "lock"},
	{{"run", "-m", "1G," WORDS_64 WORDS_64 WORDS_64 WORDS_64}, "1,2,3", "too many"},

	{{"run", "-m", "1G,merge"}, "'merge'", "merge=on"},
	{{"run", "-m", "1G,merge=yes"}, "'yes'", "on nor off"},

	{{"run", "--numa", ""}, "''", "'veneer help run'"},
	{{"run", "--numa", "cell=0,cpu=0,memory=1G"}, "'cpu=0'", "did you mean 'cpus=LIST'?"},
	{{"run", "--numa", "cell=0"}, "cell=0", "cell=0,cpus=0-3,memory=4G"},
	{{"run", "--numa", "cpus=0,memory=1G"}, "cpus=0,memory=1G", "a number"},
	{{"run", "--numa", "cell=0,memory=1G"}, "cell=0,memory=1G", "CPUs"},
	{{"run", "--numa", "cell=0,cpus=0"}, "cell=0,cpus=0", "memory"},
	{{"run", "--numa", "cell=8,cpus=0,memory=1G"}, "'8'", "0 to 7"},
	{{"run", "--numa", "cell=,cpus=0,memory=1G"}, "''", "0 to 7"},
	{{"run", "--numa", "cell=0,5,cpus=0,memory=1G"}, "'0,5'", "0 to 7"},
	{{"run", "--numa", "cell=0,cpus=x,memory=1G"}, "'x'", "0-3,8"},
	{{"run", "--numa", "cell=0,cpus=1024,memory=1G"}, "'1024'", "63 is the last"},
	{{"run", "--numa", "cell=0,cpus=3-1,memory=1G"}, "'3-1'", "0-3,8"},
	{{"run", "--numa", "cell=0,cpus=0,2-,memory=1G"}, "'0,2-'", "0-3,8"},
	{{"run", "--numa", "cell=0,cpus=0,memory=1"}, "'1'", "K, M, G or T"},
	{{"run", "--numa", "cell=0,cpus=0,memory=1G,node=x"}, "'x'", "NUMA node"},
	{{"run", "--numa", "cell=0,cpus=0,memory=1G,hugepages=4K"}, "'4K'", "2M nor 1G"},
	{{"run", "--numa", "cell=0,cpus=0,memory=1G,prealloc"}, "'prealloc'", "'veneer help run'"},
	{{"run", "--numa", "cell=0,cpus=0,memory=1G", "--numa", "cell=0,cpus=1,memory=1G"},
		"cell 0", "twice"},
	{{"run", "--numa", "cell=1,cpus=0,memory=1G"}, "1 cells", "no cell 0"},
	{{"run", "--numa", "cell=0,cpus=0,memory=1G", "--numa", "cell=2,cpus=1,memory=1G"},
		"2 cells", "no cell 1"},
	{{"run", "-m", "2G", "--numa", "cell=0,cpus=0,memory=1G"}, "2097152K", "1048576K together"},
	{{"run", "--numa", "cell=0,cpus=0,memory=17179869183G", "--numa",
		 "cell=1,cpus=1,memory=1G"},
		"--numa", "64 bits"},

	{{"run", "-d", ""}, "''", "path"},
	{{"run", "-d", ",readonly"}, "''", "path"},
	{{"run", "-d", "a,"}, "''", "'veneer help run'"},
	{{"run", "-d", "a,ro"}, "'ro'", "'veneer help run'"},
	{{"run", "-d", "a,read-only"}, "'read-only'", "did you mean 'readonly'?"},
	{{"run", "-d", "a,readonly=on"}, "'readonly=on'", "readonly"},
	{{"run", "-d", "a,cache"}, "'cache'", "did you mean 'cache=MODE'?"},
	{{"run", "-d", "a,cache=safe"}, "'safe'", "none, writeback, writethrough, directsync or"},
	{{"run", "-d", "a,cache="}, "''", "or unsafe"},
	{{"run", "-d", "a,queues"}, "'queues'", "queues=N"},
	{{"run", "-d", "a,queues="}, "''", "1 to 16"},
	{{"run", "-d", "a,queues=0"}, "'0'", "1 to 16"},
	{{"run", "-d", "a,queues=17"}, "'17'", "1 to 16"},
	{{"run", "-d", "a,queues=4x"}, "'4x'", "1 to 16"},
	{{"run", "-d", "a,poll-us=10001"}, "'10001'", "0 to 10000"},
	{{"run", "-d", "a,poll-us=-1"}, "'-1'", "0 to 10000"},
	{{"run", "-d", "a,detect-zeroes=yes"}, "'yes'", "off, on or unmap"},
	{{"run", "-d", "a,sqpoll=1"}, "'1'", "neither on nor off"},
	{{"run", "-d", "a,iopoll="}, "''", "neither on nor off"},
	{{"run", "-d", "a,block-size=768"}, "'768'", "512, 1024, 2048 or 4096"},
	{{"run", "-d", "a,block-size=8192"}, "'8192'", "512, 1024, 2048 or 4096"},
	{{"run", "-d", "a,block-size="}, "''", "512, 1024, 2048 or 4096"},
	{{"run", "-d", "a,block-size=256"}, "'256'", "512, 1024, 2048 or 4096"},
	{{"run", "-d", "a,format=qcow2"}, "'qcow2'", "qemu-img convert -O raw"},
	{{"run", "-d", "a,iops=0"}, "'0'", "1 a second"},
	{{"run", "-d", "a,iops=1K"}, "'1K'", "N:BURST"},
	{{"run", "-d", "a,iops=10:"}, "'10:'", "N:BURST"},
	{{"run", "-d", "a,iops=10:0"}, "'10:0'", "N:BURST"},
	{{"run", "-d", "a,iops=10:2:3"}, "'10:2:3'", "N:BURST"},
	{{"run", "-d", "a,bps=100"}, "'100'", "1K a second"},
	{{"run", "-d", "a,bps=999999999999G"}, "'999999999999G'", "SIZE:BURST"},
	{{"run", "-d", "a,serial"}, "'serial'", "serial=S"},
	{{"run", "-d", "a,serial="}, "''", "1 to 20 bytes"},
	{{"run", "-d", "a,serial=123456789012345678901"}, "'123456789012345678901'", "20"},
	{{"run", "-d", "a,b,readonly"}, "'b'", ",,"},

	{{"run", "--net", ""}, "''", "tap=NAME nor user"},
	{{"run", "--net", "tap"}, "'tap'", "tap=NAME nor user"},
	{{"run", "--net", "mac=02:00:00:00:00:01,user"}, "'mac=02:00:00:00:00:01'", "first"},
	{{"run", "--net", "tap="}, "''", "interface"},
	{{"run", "--net", "tap=sixteen-bytes-16"}, "'sixteen-bytes-16'", "interface"},
	{{"run", "--net", "tap=a/b"}, "'a/b'", "interface"},
	{{"run", "--net", "tap=t,user"}, "'user'", "'veneer help run'"},
	{{"run", "--net", "tap=t,hostfwd=tcp:127.0.0.1:1:2"}, "'hostfwd=", "'veneer help run'"},
	{{"run", "--net", "tap=t,vhost="}, "''", "on, off or auto"},
	{{"run", "--net", "tap=t,pps=0"}, "--net: pps='0'", "1 a second"},
	{{"run", "--net", "tap=t,pps=1:0"}, "'1:0'", "N:BURST"},
	{{"run", "--net", "tap=t,bps=1023"}, "--net: bps='1023'", "1K a second"},
	{{"run", "--net", "user,bps="}, "''", "SIZE:BURST"},
	{{"run", "--net", "tap=t,poll-us=10001"}, "--net: poll-us='10001'", "0 to 10000"},
	{{"run", "--net", "user,poll-us="}, "--net: poll-us=''", "0 to 10000"},
	{{"run", "--net", "tap=t,vhost=yes"}, "'yes'", "on, off or auto"},
	{{"run", "--net", "user,vhost=on"}, "'vhost=on'", "'veneer help run'"},
	{{"run", "--net", "tap=t,mac="}, "''", "02:00:00:00:00:01"},
	{{"run", "--net", "tap=t,mac=02:00:00:00:00"}, "'02:00:00:00:00'", "02:00:00:00:00:01"},
	{{"run", "--net", "tap=t,mac=02:00:00:00:00:01:02"}, "'02:00:00:00:00:01:02'",
		"one device"},
	{{"run", "--net", "tap=t,mac=2:0:0:0:0:1"}, "'2:0:0:0:0:1'", "02:00:00:00:00:01"},
	{{"run", "--net", "tap=t,mac=02:00:00:00:00:0g"}, "'02:00:00:00:00:0g'", "one device"},
	{{"run", "--net", "tap=t,mac=02-00-00-00-00-01"}, "'02-00-00-00-00-01'", "one device"},
	{{"run", "--net", "tap=t,mac=01:00:00:00:00:01"}, "'01:00:00:00:00:01'", "one device"},
	{{"run", "--net", "tap=t,mac=00:00:00:00:00:00"}, "'00:00:00:00:00:00'", "one device"},
	{{"run", "--net", "tap=t,queues=0"}, "'0'", "1 to 16"},
	{{"run", "--net", "tap=t,queues=17"}, "'17'", "1 to 16"},
	{{"run", "--net", "tap=t,mtu=67"}, "'67'", "68 to 65535"},
	{{"run", "--net", "tap=t,mtu=65536"}, "'65536'", "68 to 65535"},
	{{"run", "--net", "tap=t,mtu=big"}, "'big'", "68 to 65535"},
	{{"run", "--net", "user,queues=2"}, "'queues=2'", "'veneer help run'"},
	{{"run", "--net", "user,mac=x"}, "'x'", "one device"},
	{{"run", "--net", "user,hostfwd"}, "'hostfwd'", "hostfwd=tcp:ADDR"},
	{{"run", "--net", "user,hostfwd="}, "''", "tcp:ADDR:HOSTPORT:GUESTPORT"},
	{{"run", "--net", "user,hostfwd=sctp:127.0.0.1:1:2"}, "'sctp:127.0.0.1:1:2'", "udp"},
	{{"run", "--net", "user,hostfwd=tcp:127.0.0.1"}, "'tcp:127.0.0.1'", "HOSTPORT"},
	{{"run", "--net", "user,hostfwd=tcp:127.0.0.1:22"}, "'tcp:127.0.0.1:22'", "GUESTPORT"},
	{{"run", "--net", "user,hostfwd=tcp:localhost:1:2"}, "'tcp:localhost:1:2'", "IPv4"},
	{{"run", "--net", "user,hostfwd=tcp::1:2"}, "'tcp::1:2'", "IPv4"},
	{{"run", "--net", "user,hostfwd=tcp:255.255.255.255.255:1:2"}, ".255:1:2'", "IPv4"},
	{{"run", "--net", "user,hostfwd=tcp:1.2.3.4:0:2"}, "'tcp:1.2.3.4:0:2'", "1 to 65535"},
	{{"run", "--net", "user,hostfwd=tcp:1.2.3.4:65536:2"}, ":65536:2'", "1 to 65535"},
	{{"run", "--net", "user,hostfwd=tcp:1.2.3.4:1:000002"}, ":000002'", "1 to 65535"},
	{{"run", "--net", "user,hostfwd=tcp:1.2.3.4:1:2:3"}, ":1:2:3'", "GUESTPORT"},
	{{"run", "--net", "user,hostfwd=tcp:1.2.3.4:1:"}, ":1:'", "1 to 65535"},

	{{"run", "--rng", ""}, "''", "on nor off"},
	{{"run", "--rng", "yes"}, "'yes'", "on nor off"},
	{{"run", "--transport", ""}, "''", "pci nor mmio"},
	{{"run", "--transport", "PCI"}, "'PCI'", "pci nor mmio"},

	{{"run", "--serial", ""}, "''", "stdio, none, pty or file:PATH"},
	{{"run", "--serial", "tcp"}, "'tcp'", "stdio, none, pty or file:PATH"},
	{{"run", "--serial", "file"}, "'file'", "file:PATH"},
	{{"run", "--serial", "file:"}, "'file:'", "file:PATH"},
	{{"run", "--serial", "stdio,x"}, "'stdio,x'", "stdio"},

	{{"run", "--timeout", ""}, "''", "seconds"},
	{{"run", "--timeout", "0"}, "'0'", "above 0"},
	{{"run", "--timeout", "0.0"}, "'0.0'", "above 0"},
	{{"run", "--timeout", "-1"}, "'-1'", "seconds"},
	{{"run", "--timeout", "1s"}, "'1s'", "seconds"},
	{{"run", "--timeout", "1."}, "'1.'", "seconds"},
	{{"run", "--timeout", ".5"}, "'.5'", "seconds"},
	{{"run", "--timeout", "1.2.3"}, "'1.2.3'", "seconds"},
	{{"run", "--timeout", "1e3"}, "'1e3'", "seconds"},
	{{"run", "--timeout", "inf"}, "'inf'", "seconds"},
	{{"run", "--timeout", "0.0000000001"}, "'0.0000000001'", "seconds"},
	{{"run", "--timeout", "1000000000"}, "'1000000000'", "below 1000000000"},
	{{"run", "--timeout", "99999999999999999999"}, "'99999999999999999999'", "seconds"},
};

static void test_bad_lines(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_lines) / sizeof(bad_lines[0]); i++) {
		const struct bad *bad = &bad_lines[i];
		struct veneer_error error;
		struct options options;

		int ret = parse(&options, bad->arguments, &error);
		options_free(&options);
		if (ret != -EINVAL || !strstr(error.message, bad->names) ||
			!strstr(error.message, bad->offers) || strchr(error.message, '\n'))
			fail_msg("case %zu (%s): %d, '%s'; expected %s and %s", i, bad->names, ret,
				error.message, bad->names, bad->offers);
	}
}

static struct options good(const char *const *arguments)
{
	struct veneer_error error;
	struct options options;

	if (parse(&options, arguments, &error) != 0)
		fail_msg("%s", error.message);
	assert_string_equal(error.message, "");
	return options;
}

#define GOOD(...) good((const char *const[]){__VA_ARGS__, NULL})

static void test_doctor(void **state)
{
	(void)state;
	assert_int_equal(GOOD("doctor").action, ACTION_DOCTOR);
	assert_int_equal(GOOD("doctor", "--help").action, ACTION_DOCTOR_HELP);
	assert_int_equal(GOOD("doctor", "--json", "-h").action, ACTION_DOCTOR_HELP);
	assert_false(GOOD("doctor").json);
	assert_true(GOOD("doctor", "--json").json);
	assert_int_equal(GOOD("doctor").host_cpus.bits[0], 0);
	assert_int_equal(GOOD("doctor", "--cpus", "2-4,7").host_cpus.bits[0], 0x9c);
	assert_int_equal(GOOD("doctor", "-c", "1023").host_cpus.bits[15], 1ull << 63);
	struct options options;
	struct veneer_error error;
	assert_int_equal(parse(&options,
				 (const char *const[]){"doctor", "-d", "a,,b", "--disk",
					 "/dev/c,cache=none", NULL},
				 &error),
		0);
	assert_int_equal(options.disk_count, 2);
	assert_string_equal(options.disks[0].path, "a,b");
	assert_string_equal(options.disks[1].path, "/dev/c");
	options_free(&options);
}

static void test_actions(void **state)
{
	(void)state;
	assert_int_equal(good((const char *const[]){NULL}).action, ACTION_USAGE);
	assert_int_equal(GOOD("--help").action, ACTION_HELP);
	assert_int_equal(GOOD("help").action, ACTION_HELP);
	assert_int_equal(GOOD("help", "help").action, ACTION_HELP);
	assert_int_equal(GOOD("help", "--help").action, ACTION_HELP);
	assert_int_equal(GOOD("help", "run").action, ACTION_RUN_HELP);
	assert_int_equal(GOOD("--help", "run").action, ACTION_RUN_HELP);
	assert_int_equal(GOOD("help", "doctor").action, ACTION_DOCTOR_HELP);
	assert_int_equal(GOOD("help", "stats").action, ACTION_STATS_HELP);
	assert_int_equal(GOOD("help", "list").action, ACTION_LIST_HELP);
	assert_int_equal(GOOD("list", "--help").action, ACTION_LIST_HELP);
	assert_int_equal(GOOD("list", "-h").action, ACTION_LIST_HELP);
	assert_int_equal(GOOD("list").action, ACTION_LIST);
	assert_int_equal(GOOD("version").action, ACTION_VERSION);
	assert_int_equal(GOOD("version", "--help").action, ACTION_HELP);
	assert_int_equal(GOOD("-h").action, ACTION_HELP);
	assert_int_equal(GOOD("--version").action, ACTION_VERSION);
	assert_int_equal(GOOD("run", "--help").action, ACTION_RUN_HELP);
	assert_int_equal(GOOD("run", "-h").action, ACTION_RUN_HELP);
	assert_int_equal(GOOD("run", "-c", "2", "--help", "--bogus").action, ACTION_RUN_HELP);
	assert_int_equal(GOOD("run").action, ACTION_RUN);
}

static void test_defaults(void **state)
{
	struct options options = GOOD("run");

	(void)state;
	assert_null(options.kernel);
	assert_null(options.initrd);
	assert_null(options.cmdline);
	assert_null(options.dump_dtb);
	assert_int_equal(options.cpus, 1);
	assert_false(options.pit);
	assert_int_equal(options.idle, VENEER_IDLE_HALT);
	assert_int_equal(options.halt_poll_ns, -1);
	assert_int_equal(options.memory.size, 256 * MIB);
	assert_int_equal(options.memory.hugepage_size, 0);
	assert_int_equal(options.memory.node, -1);
	assert_false(options.memory.prealloc);
	assert_false(options.memory.lock);
	assert_int_equal(options.disk_count, 0);
	assert_int_equal(options.net_count, 0);
	assert_int_equal(options.transport, VENEER_TRANSPORT_DEFAULT);
	assert_false(options.rng);
	assert_int_equal(options.serial, SERIAL_STDIO);
	assert_int_equal(options.timeout_ns, 0);
	assert_false(options.reboot);
}

static void test_strings(void **state)
{
	struct options options =
		GOOD("run", "-k", "vmlinuz", "--initrd=initrd.img", "-aconsole=ttyS0");

	(void)state;
	assert_string_equal(options.kernel, "vmlinuz");
	assert_string_equal(options.initrd, "initrd.img");
	assert_string_equal(options.cmdline, "console=ttyS0");
	// An option's value may look like an option, and the last one counts.
	options = GOOD("run", "--cmdline", "--kernel", "--cmdline", "", "--kernel", "k");
	assert_string_equal(options.cmdline, "");
	assert_string_equal(options.kernel, "k");
	assert_string_equal(GOOD("run", "--dump-dtb", "-").dump_dtb, "-");
	assert_true(GOOD("run", "--reboot").reboot);
}

static void test_cpus(void **state)
{
	(void)state;
	assert_int_equal(GOOD("run", "-c", "1").cpus, 1);
	assert_int_equal(GOOD("run", "--cpus", "64").cpus, 64);
	assert_int_equal(GOOD("run", "--cpus=007").cpus, 7);
	assert_true(GOOD("run", "-c", "2,pit=on").pit);
	assert_false(GOOD("run", "-c", "2,pit=off").pit);
	assert_false(GOOD("run", "-c", "2,pit=on", "-c", "2").pit);
	assert_int_equal(GOOD("run", "-c", "1,idle=poll").idle, VENEER_IDLE_POLL);
	assert_int_equal(GOOD("run", "-c", "1,idle=mwait").idle, VENEER_IDLE_MWAIT);
	assert_int_equal(GOOD("run", "-c", "1,idle=mwait", "-c", "1").idle, VENEER_IDLE_HALT);
	assert_int_equal(GOOD("run", "-c", "1,halt-poll-ns=0").halt_poll_ns, 0);
	assert_int_equal(GOOD("run", "-c", "1,halt-poll-ns=4294967295").halt_poll_ns, UINT32_MAX);
	const struct veneer_topology topology =
		GOOD("run", "-c", "24,topology=2x1x6x2,pit=on").topology;
	assert_int_equal(topology.sockets, 2);
	assert_int_equal(topology.dies, 1);
	assert_int_equal(topology.cores, 6);
	assert_int_equal(topology.threads, 2);
	assert_int_equal(GOOD("run", "-c", "2,topology=1x1x2x1", "-c", "2").topology.cores, 0);
}

static void test_cpu(void **state)
{
	struct options options = GOOD("run", "--cpu", "Haswell,-rdrand,tsc-khz=2000000,+invtsc");

	(void)state;
	assert_string_equal(options.cpu, "Haswell,-rdrand,+invtsc");
	assert_int_equal(options.tsc_khz, 2000000);
	options_free(&options);
	options = GOOD("run", "--cpu", "host,tsc-khz=1", "--cpu", "baseline");
	assert_string_equal(options.cpu, "baseline");
	assert_int_equal(options.tsc_khz, 0);
	options_free(&options);
	assert_null(GOOD("run").cpu);
	assert_int_equal(GOOD("run", "--cpu", "?").action, ACTION_CPU_MODELS);
	assert_int_equal(GOOD("run", "--cpu=help", "--bogus").action, ACTION_CPU_MODELS);
}

static void test_names_and_statistics(void **state)
{
	(void)state;
	assert_null(GOOD("run").name);
	assert_false(GOOD("run").stats);
	assert_string_equal(GOOD("run", "--name", "web-1.b_c").name, "web-1.b_c");
	assert_string_equal(GOOD("run", "--name=1x").name, "1x");
	assert_true(GOOD("run", "--stats").stats);
	assert_int_equal(GOOD("run", "--stats").stats_format, STATS_TEXT);
	assert_int_equal(GOOD("run", "--stats=text").stats_format, STATS_TEXT);
	assert_int_equal(GOOD("run", "--stats=json").stats_format, STATS_JSON);

	assert_int_equal(GOOD("list").action, ACTION_LIST);
	assert_int_equal(GOOD("stats").action, ACTION_LIST);
	assert_int_equal(GOOD("stats", "--help").action, ACTION_STATS_HELP);
	struct options options = GOOD("stats", "web");
	assert_int_equal(options.action, ACTION_STATS);
	assert_string_equal(options.query.guest, "web");
	assert_int_equal(options.query.format, STATS_TEXT);
	assert_int_equal(options.query.interval_ns, 0);
	assert_null(options.query.output);
	options = GOOD("stats", "--prometheus", "12", "--watch=0.5", "--output", "file");
	assert_string_equal(options.query.guest, "12");
	assert_int_equal(options.query.format, STATS_PROMETHEUS);
	assert_int_equal(options.query.interval_ns, 500000000);
	assert_string_equal(options.query.output, "file");
	options = GOOD("stats", "web", "--json", "--watch");
	assert_int_equal(options.query.format, STATS_JSON);
	assert_int_equal(options.query.interval_ns, 1000000000);
	assert_int_equal(GOOD("stats", "a", "--watch=3").query.interval_ns, 3000000000);
}

static void expect_cpus(const struct veneer_cpuset *set, const char *list)
{
	char text[256];

	veneer_cpuset_format(set, text, sizeof(text));
	assert_string_equal(text, list);
}

static void test_placement(void **state)
{
	struct options options = GOOD("run", "-c", "5,pin=8,0-3,pit=on,iothreads=9,12-13,vmm=5");

	(void)state;
	assert_false(options.pin_auto);
	assert_true(options.pit);
	expect_cpus(&options.placement.vcpus[0], "8");
	expect_cpus(&options.placement.vcpus[1], "0");
	expect_cpus(&options.placement.vcpus[4], "3");
	expect_cpus(&options.placement.iothreads, "9,12-13");
	expect_cpus(&options.placement.vmm, "5");
	assert_int_equal(options.placement.fifo, 0);
	options = GOOD("run", "-c", "4,pin=0:2-3,1-2:4,1:6,sched=fifo:99");
	expect_cpus(&options.placement.vcpus[0], "2-3");
	expect_cpus(&options.placement.vcpus[1], "4,6");
	expect_cpus(&options.placement.vcpus[2], "4");
	expect_cpus(&options.placement.vcpus[3], "");
	assert_int_equal(options.placement.fifo, 99);
	options = GOOD("run", "-c", "2,vmm=0,1,pin=auto,iothreads=3,,4");
	assert_true(options.pin_auto);
	expect_cpus(&options.placement.vmm, "0-1");
	expect_cpus(&options.placement.iothreads, "3-4");
	// The last one counts, and nothing of the ones before.
	options = GOOD("run", "-c", "1,pin=auto,pin=7", "--dry-run");
	assert_false(options.pin_auto);
	assert_true(options.dry_run);
	expect_cpus(&options.placement.vcpus[0], "7");
	options = GOOD("run", "-c", "1,pin=7,vmm=1,sched=fifo:1", "-c", "1");
	expect_cpus(&options.placement.vcpus[0], "");
	expect_cpus(&options.placement.vmm, "");
	assert_int_equal(options.placement.fifo, 0);
	options = GOOD("run", "-c", "64,pin=0-62,1023");
	expect_cpus(&options.placement.vcpus[63], "1023");
}

static void test_memory(void **state)
{
	struct options options;

	(void)state;
	assert_int_equal(GOOD("run", "-m", "1048576").memory.size, MIB);
	assert_int_equal(GOOD("run", "-m", "2048K").memory.size, 2 * MIB);
	assert_int_equal(GOOD("run", "-m", "512M").memory.size, 512 * MIB);
	assert_int_equal(GOOD("run", "--memory", "3G").memory.size, 3 * GIB);
	static const struct {
		const char *text;
		uint64_t size;
	} sizes[] = {{"2048k", 2 * MIB}, {"2048KB", 2 * MIB}, {"2048KiB", 2 * MIB}, {"2m", 2 * MIB},
		{"2MB", 2 * MIB}, {"2mib", 2 * MIB}, {"2Mi", 2 * MIB}, {"1g", GIB}, {"1GiB", GIB},
		{"1gb", GIB}, {"1T", 1024 * GIB}, {"2TiB", 2048 * GIB}, {"1tb", 1024 * GIB},
		{"16777215T", 16777215ull << 40}};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		assert_int_equal(GOOD("run", "-m", sizes[i].text).memory.size, sizes[i].size);
	assert_int_equal(GOOD("run", "-m", "1G,hugepages=2MiB").memory.hugepage_size, 2 * MIB);
	assert_int_equal(GOOD("run", "-m", "1G,hugepages=1g").memory.hugepage_size, GIB);
	assert_true(GOOD("run", "-m", "17179869183G").memory.size == 17179869183 * GIB);
	options = GOOD("run", "-m", "4G,hugepages=1G,node=1,prealloc,lock");
	assert_int_equal(options.memory.size, 4 * GIB);
	assert_int_equal(options.memory.hugepage_size, GIB);
	assert_int_equal(options.memory.node, 1);
	assert_true(options.memory.prealloc);
	assert_true(options.memory.lock);
	options = GOOD("run", "-m", "1G,lock", "-m", "1G,hugepages=2M");
	assert_int_equal(options.memory.hugepage_size, 2 * MIB);
	assert_int_equal(options.memory.node, -1);
	assert_false(options.memory.lock);
	assert_false(options.memory.merge);
	assert_true(GOOD("run", "-m", "1G,merge=on").memory.merge);
	assert_false(GOOD("run", "-m", "1G,merge=on,merge=off").memory.merge);
}

static void test_numa(void **state)
{
	struct options options = GOOD("run", "--numa", "cell=1,cpus=1,3-5,node=2,memory=2G",
		"--numa", "memory=512M,hugepages=2M,cpus=0,2,cell=0");

	(void)state;
	assert_int_equal(options.cell_count, 2);
	assert_int_equal(options.cells[0].cpus.bits[0], 0x5);
	assert_int_equal(options.cells[0].size, 512 * MIB);
	assert_int_equal(options.cells[0].hugepage_size, 2 * MIB);
	assert_int_equal(options.cells[0].node, -1);
	assert_int_equal(options.cells[1].cpus.bits[0], 0x3a);
	assert_int_equal(options.cells[1].size, 2 * GIB);
	assert_int_equal(options.cells[1].hugepage_size, 0);
	assert_int_equal(options.cells[1].node, 2);
	assert_int_equal(options.memory.size, 2 * GIB + 512 * MIB);
	options = GOOD("run", "--numa", "cell=0,cpus=0,memory=1G", "-m", "1G,prealloc");
	assert_int_equal(options.memory.size, GIB);
	assert_true(options.memory.prealloc);
	assert_int_equal(GOOD("run").cell_count, 0);
}

static void test_disks(void **state)
{
	struct options options = GOOD("run", "-d", "a.img", "--disk",
		"b,,c,,,readonly,serial=12345678901234567890", "-d", "d,cache=none");

	(void)state;
	assert_int_equal(options.disk_count, 3);
	assert_string_equal(options.disks[0].path, "a.img");
	assert_null(options.disks[0].serial);
	assert_false(options.disks[0].readonly);
	assert_int_equal(options.disks[0].cache, VENEER_CACHE_WRITEBACK);
	assert_string_equal(options.disks[1].path, "b,c,");
	assert_string_equal(options.disks[1].serial, "12345678901234567890");
	assert_true(options.disks[1].readonly);
	assert_int_equal(options.disks[2].cache, VENEER_CACHE_NONE);
	options_free(&options);
	options = GOOD("run", "-d", "a,cache=writethrough", "-d", "b,cache=none,cache=writeback",
		"-d", "c,serial=x,,y");
	assert_int_equal(options.disks[0].cache, VENEER_CACHE_WRITETHROUGH);
	assert_int_equal(options.disks[1].cache, VENEER_CACHE_WRITEBACK);
	assert_string_equal(options.disks[2].serial, "x,y");
	options_free(&options);
}

static void test_disk_queues(void **state)
{
	struct options options = GOOD("run", "-d", "a", "-d", "b,queues=16,cache=directsync", "-d",
		"c,queues=1,cache=unsafe,poll-us=0", "-d",
		"d,poll-us=200,iops=500:1000,bps=10M:1G,detect-zeroes=unmap,sqpoll=on,iopoll=off,format=raw,block-size=4096");

	(void)state;
	assert_int_equal(options.disks[0].queues, 0);
	assert_int_equal(options.disks[1].queues, 16);
	assert_int_equal(options.disks[1].cache, VENEER_CACHE_DIRECTSYNC);
	assert_int_equal(options.disks[2].queues, 1);
	assert_int_equal(options.disks[0].poll_us, 0);
	assert_int_equal(options.disks[2].poll_us, VENEER_POLL_OFF);
	assert_int_equal(options.disks[3].poll_us, 200);
	assert_true(options.disks[3].sqpoll);
	assert_false(options.disks[3].iopoll);
	assert_true(options.disks[3].raw);
	assert_int_equal(options.disks[3].block_size, 4096);
	assert_false(options.disks[2].raw);
	assert_int_equal(options.disks[3].iops, 500);
	assert_int_equal(options.disks[3].iops_burst, 1000);
	assert_int_equal(options.disks[3].bps, 10 << 20);
	assert_int_equal(options.disks[3].bps_burst, 1 << 30);
	assert_int_equal(options.disks[3].detect_zeroes, VENEER_DETECT_ZEROES_UNMAP);
	assert_int_equal(options.disks[2].cache, VENEER_CACHE_UNSAFE);
	options_free(&options);
}

static void test_nets(void **state)
{
	static const uint8_t mac[] = {0x02, 0xab, 0xCD, 0x00, 0xff, 0x10};
	struct options options = GOOD("run", "--net", "tap=fifteen-bytes15", "--net",
		"tap=t,mac=02:ab:CD:00:ff:10,queues=4,mtu=9000,vhost=on,pps=5:6,bps=1M,poll-us=9",
		"--net", "user,poll-us=0", "--net",
		"user,hostfwd=tcp:127.0.0.1:2222:22,mac=02:ab:cd:00:ff:10,hostfwd=udp:0.0.0.0:65535:53");
	const struct veneer_net *nets = options.nets;

	(void)state;
	assert_int_equal(options.net_count, 4);
	assert_int_equal(nets[0].backend, VENEER_NET_TAP);
	assert_string_equal(nets[0].tap, "fifteen-bytes15");
	assert_int_equal(nets[0].queues, 0);
	assert_int_equal(nets[0].mtu, 0);
	assert_memory_equal(nets[0].mac, "\0\0\0\0\0\0", 6);
	assert_memory_equal(nets[1].mac, mac, 6);
	assert_int_equal(nets[1].queues, 4);
	assert_int_equal(nets[1].mtu, 9000);
	assert_int_equal(nets[0].vhost, VENEER_VHOST_AUTO);
	assert_int_equal(nets[1].vhost, VENEER_VHOST_ON);
	assert_int_equal(nets[1].pps, 5);
	assert_int_equal(nets[1].pps_burst, 6);
	assert_int_equal(nets[1].bps, 1 << 20);
	assert_int_equal(nets[1].bps_burst, 0);
	assert_int_equal(nets[0].poll_us, 0);
	assert_int_equal(nets[1].poll_us, 9);
	assert_int_equal(nets[2].poll_us, VENEER_POLL_OFF);
	assert_int_equal(nets[2].backend, VENEER_NET_USER);
	assert_null(nets[2].tap);
	assert_int_equal(nets[2].forward_count, 0);
	assert_int_equal(nets[3].backend, VENEER_NET_USER);
	assert_memory_equal(nets[3].mac, mac, 6);
	assert_int_equal(nets[3].forward_count, 2);
	assert_string_equal(nets[3].forwards[0], "tcp:127.0.0.1:2222:22");
	assert_string_equal(nets[3].forwards[1], "udp:0.0.0.0:65535:53");
	options_free(&options);
}

static void test_rng(void **state)
{
	(void)state;
	assert_false(GOOD("run").rng);
	assert_true(GOOD("run", "-k", "vmlinuz").rng);
	assert_true(GOOD("run", "--rng", "on").rng);
	assert_false(GOOD("run", "--rng", "off", "-k", "vmlinuz").rng);
	assert_true(GOOD("run", "--rng", "off", "--rng=on").rng);
}

static void test_transport(void **state)
{
	(void)state;
	assert_int_equal(GOOD("run", "--transport", "pci").transport, VENEER_TRANSPORT_PCI);
	assert_int_equal(GOOD("run", "--transport=mmio").transport, VENEER_TRANSPORT_MMIO);
}

static void test_serial(void **state)
{
	(void)state;
	assert_int_equal(GOOD("run", "--serial", "stdio").serial, SERIAL_STDIO);
	assert_int_equal(GOOD("run", "--serial", "none").serial, SERIAL_NONE);
	assert_int_equal(GOOD("run", "--serial", "pty").serial, SERIAL_PTY);
	struct options options = GOOD("run", "--serial", "file:a,b");
	assert_int_equal(options.serial, SERIAL_FILE);
	assert_string_equal(options.serial_path, "a,b");
}

static void test_timeout(void **state)
{
	(void)state;
	assert_true(GOOD("run", "--timeout", "1").timeout_ns == 1000000000);
	assert_true(GOOD("run", "--timeout", "0.5").timeout_ns == 500000000);
	assert_true(GOOD("run", "--timeout", "2.000000001").timeout_ns == 2000000001);
	assert_true(GOOD("run", "--timeout", "0.010").timeout_ns == 10000000);
	assert_true(
		GOOD("run", "--timeout", "999999999.999999999").timeout_ns == 999999999999999999);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_actions),
		cmocka_unit_test(test_doctor),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_cpus),
		cmocka_unit_test(test_cpu),
		cmocka_unit_test(test_names_and_statistics),
		cmocka_unit_test(test_placement),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_numa),
		cmocka_unit_test(test_disks),
		cmocka_unit_test(test_disk_queues),
		cmocka_unit_test(test_nets),
		cmocka_unit_test(test_rng),
		cmocka_unit_test(test_transport),
		cmocka_unit_test(test_serial),
		cmocka_unit_test(test_timeout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
