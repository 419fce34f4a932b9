// SPDX-License-Identifier: Apache-2.0
//
// The command line: each option, each sub-option, and each way to get one wrong, with the word that
// the complaint must name.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file_prop.h"
#include "base/macros.h"
#include "cli/options.h"
#include "vmm/config.h"

#define ARGS_MAX 36

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

#define DISKS_8 "-da", "-da", "-da", "-da", "-da", "-da", "-da", "-da"

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
	{{"run", "-it"}, "unknown option '-it': there is no -t", "-i is --initrd"},
	{{"stats", "-it"}, "unknown option '-it'", "'veneer help stats'"},
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
	{{"pause"}, "pause: which guest", "'veneer list'"},
	{{"wait"}, "wait: which guest", "'veneer list'"},
	{{"stop", "--time=1"}, "stop: which guest", "'veneer list'"},
	{{"resume", "a", "b"}, "'b'", "one guest"},
	{{"reset", "a", "--time=1"}, "'--time=1'", "'veneer help reset'"},
	{{"stop", "a", "--time", "soon"}, "'soon'", "a number from 0"},
	{{"stop", "a", "--time=-1"}, "'-1'", "a number from 0"},
	{{"stop", "a", "--time=1000000001"}, "'1000000001'", "1000000000"},
	{{"stop", "a", "--tim", "1"}, "'--tim'", "--time"},
	{{"paus", "a"}, "'paus'", "did you mean 'pause'?"},

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
	{{"run", "-c", "1,halt-poll-ns="}, "''", "0 to 4294967295"},
	{{"run", "-c", "1,halt-poll-ns=-1"}, "'-1'", "0 to 4294967295"},
	{{"run", "-c", "1,halt-poll-ns=4294967296"}, "'4294967296'", "4294967295"},
	{{"run", "-c", "1,halt-poll-ns=0,idle=poll"}, "halt-poll-ns", "idle=halt"},
	{{"run", "-c", "1,idle=mwait,halt-poll-ns=9"}, "halt-poll-ns", "idle=halt"},
	{{"run", "-c", "4,topology=1x1x2"}, "'1x1x2'", "1x1x4x2"},
	{{"run", "-c", "4,topology=1x1x2x2x1"}, "'1x1x2x2x1'", "THREADS"},
	{{"run", "-c", "4,topology=1x0x2x2"}, "'1x0x2x2'", "DIES"},
	{{"run", "-c", "4,topology=1x1x65536x2"}, "'1x1x65536x2'", "CORES"},
	{{"run", "-c", "4,topology="}, "''", "SOCKETS"},
	{{"run", "-c", "4,topology=2x1x2x2"}, "2x1x2x2", "makes 8 CPUs"},
	{{"run", "-c", "4,topology=65535x65535x65535x65535"}, "18445618199572250625",
		"not the 4 of the guest"},
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
	{{"run", "--cpu", "host,features="}, "features=", "+ or - before it"},
	{{"run", "--cpu", "host,features=avx"}, "avx'", "+ or - before it"},
	{{"run", "--cpu", "host,+a,,b"}, "'+a,b'", "+ or - before it"},
	{{"run", "--cpu", "nosuch"}, "--cpu: there is no CPU model 'nosuch'", "lists all"},
	{{"run", "--cpu", "host,+axv2"}, "--cpu: there is no CPU feature 'axv2'", "avx2"},
	{{"run", "--cpu", "host,tsc-khz=0"}, "'0'", "number of kHz from 1 to 2147483647"},
	{{"run", "--cpu", "host,tsc-khz=2147483648"}, "'2147483648'",
		"number of kHz from 1 to 2147483647"},
	{{"run", "--cpu", "host,tsc-khz=2GHz"}, "'2GHz'", "number of kHz from 1 to 2147483647"},

	{{"run", "-m", ""}, "''", "K, M, G or T"},
	{{"run", "-m", "M"}, "'M'", "K, M, G or T"},
	{{"run", "-m", "512"}, "'512'", "K, M, G or T"},
	{{"run", "-m", "0"}, "'0'", "K, M, G or T"},
	{{"run", "-m", "4095K"}, "'4095K'", "4M"},
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

	{{"run", "-m", "67108865"}, "--memory: guest memory of 67108865 bytes", "no multiple"},
	{{"run", "-m", "65M,hugepages=2M"}, "--memory: guest", "next larger size is 67584K"},
	{{"run", "-k", "k", "-m", "100T"}, "--memory: guest", "more than 64T"},
	{{"run", "-m", "1G,hugepages=2M,merge=on"}, "--memory: merge=on", "hugepages="},
	{{"run", "-m", "63M"}, "--memory: the built-in guest", "needs 64M"},

	{{"run", "--numa", ""}, "''", "'veneer help run'"},
	{{"run", "--numa", "cell=0,cpu=0,memory=1G"}, "'cpu=0'", "did you mean 'cpus=LIST'?"},
	{{"run", "--numa", "cell=0"}, "--numa: needs cpus=LIST,memory=SIZE", ""},
	{{"run", "--numa", "cpus=0,memory=1G"}, "--numa: needs cell=N", ""},
	{{"run", "--numa", "cell=0,memory=1G"}, "--numa: needs cpus=LIST", ""},
	{{"run", "--numa", "cell=0,cpus=0"}, "--numa: needs memory=SIZE", ""},
	{{"run", "--numa", "cell=8,cpus=0,memory=1G"}, "'8'", "0 to 7"},
	{{"run", "--numa", "cell=,cpus=0,memory=1G"}, "''", "0 to 7"},
	{{"run", "--numa", "cell=0,5,cpus=0,memory=1G"}, "'0,5'", "0 to 7"},
	{{"run", "--numa", "cell=0,cpus=x,memory=1G"}, "'x'", "0-3,8"},
	{{"run", "--numa", "cell=0,cpus=1024,memory=1G"}, "'1024'", "63 is the last"},
	{{"run", "--numa", "cell=0,cpus=60-64,memory=1G"}, "'60-64'", "63 is the last"},
	{{"run", "--numa", "cell=0,cpus=,memory=1G"}, "cpus=''", "0-3,8"},
	{{"run", "--numa", "cell=0,cpus=3-1,memory=1G"}, "'3-1'", "0-3,8"},
	{{"run", "--numa", "cell=0,cpus=0,2-,memory=1G"}, "'0,2-'", "0-3,8"},
	{{"run", "--numa", "cell=0,cpus=0,memory=1"}, "'1'", "K, M, G or T"},
	{{"run", "--numa", "cell=0,cpus=0,memory=1G,node=x"}, "'x'", "NUMA node"},
	{{"run", "--numa", "cell=0,cpus=0,memory=1G,hugepages=4K"}, "'4K'", "2M nor 1G"},
	{{"run", "--numa", "cell=0,cpus=0,memory=1G,prealloc"}, "'prealloc'", "'veneer help run'"},
	{{"run", "--numa", "cell=0,cpus=0,memory=1G", "--numa", "cell=0,cpus=1,memory=1G"},
		"cell 0", "twice"},
	{{"run", "--numa", "cell=1,cpus=0,memory=1G"}, "from 0 without gaps", "no cell 0"},
	{{"run", "--numa", "cell=0,cpus=0,memory=1G", "--numa", "cell=2,cpus=1,memory=1G"},
		"from 0 without gaps", "no cell 1"},
	{{"run", "-m", "2G", "--numa", "cell=0,cpus=0,memory=1G"}, "--memory: it is 2097152K",
		"1048576K together"},
	{{"run", "--numa", "cell=0,cpus=0,memory=63M"}, "--numa: the built-in guest", "needs 64M"},
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
	{{"run", "-d", "a,cache=safe"}, "'safe'", "writeback, none, writethrough, directsync or"},
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
	{{"run", "-d", "a,iopoll=on"}, "--disk: iopoll=on", "cache=none"},
	{{"run", DISKS_8, "-da"}, "--disk: 9 disks and 0 other devices", "8 virtio-mmio slots"},
	{{"run", "-kk", DISKS_8, DISKS_8, DISKS_8, "-da", "-da", "-da", "-da", "-da", "-da",
		 "--net", "user"},
		"--net: 30 disks and 2 other devices,", "30 PCI slots"},
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
	{{"run", "--net", "tap=t,vhost="}, "''", "auto, on or off"},
	{{"run", "--net", "tap=t,pps=0"}, "--net: pps='0'", "1 a second"},
	{{"run", "--net", "tap=t,pps=1:0"}, "'1:0'", "N:BURST"},
	{{"run", "--net", "tap=t,bps=1023"}, "--net: bps='1023'", "1K a second"},
	{{"run", "--net", "user,bps="}, "''", "SIZE:BURST"},
	{{"run", "--net", "tap=t,poll-us=10001"}, "--net: poll-us='10001'", "0 to 10000"},
	{{"run", "--net", "user,poll-us="}, "--net: poll-us=''", "0 to 10000"},
	{{"run", "--net", "tap=t,vhost=yes"}, "'yes'", "auto, on or off"},
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

	{{"run", "--net", "user,hostfwd=tcp:1.2.3.4:1:2,hostfwd=tcp:1.2.3.4:1:3"},
		"--net: hostfwd: port 1 of 1.2.3.4 (tcp)", "twice"},

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

// The options of a line that is right; given back before the next one and at the end.
static struct options current;

static const struct options *line(const char *const *arguments)
{
	options_free(&current);
	current = good(arguments);
	return &current;
}

#define LINE(...) line((const char *const[]){__VA_ARGS__, NULL})

static int free_line(void **state)
{
	(void)state;
	options_free(&current);
	return 0;
}

// What an option or property of the current line's guest is; NULL: not set.
static void expect(const char *name, const char *value)
{
	char *text = options_get(&current, name);

	if (!value && text)
		fail_msg("%s is '%s'", name, text);
	if (value && (!text || strcmp(text, value) != 0))
		fail_msg("%s is '%s', not '%s'", name, text ? text : "not set", value);
	free(text);
}

static void test_doctor(void **state)
{
	(void)state;
	assert_int_equal(LINE("doctor")->action, ACTION_DOCTOR);
	assert_false(current.doctor.json);
	assert_int_equal(current.doctor.cpus.bits[0], 0);
	assert_int_equal(LINE("doctor", "--help")->action, ACTION_DOCTOR_HELP);
	assert_int_equal(LINE("doctor", "--json", "-h")->action, ACTION_DOCTOR_HELP);
	assert_true(LINE("doctor", "--json")->doctor.json);
	assert_int_equal(LINE("doctor", "--cpus", "2-4,7")->doctor.cpus.bits[0], 0x9c);
	assert_int_equal(LINE("doctor", "-c", "1023")->doctor.cpus.bits[15], 1ull << 63);
	LINE("doctor", "-d", "a,,b", "--disk", "/dev/c,cache=none");
	expect("disk0.path", "a,b");
	expect("disk1.path", "/dev/c");
	expect("disk2.path", NULL);
}

static void test_actions(void **state)
{
	(void)state;
	assert_int_equal(line((const char *const[]){NULL})->action, ACTION_USAGE);
	assert_int_equal(LINE("--help")->action, ACTION_HELP);
	assert_int_equal(LINE("help")->action, ACTION_HELP);
	assert_int_equal(LINE("help", "help")->action, ACTION_HELP);
	assert_int_equal(LINE("help", "--help")->action, ACTION_HELP);
	assert_int_equal(LINE("help", "run")->action, ACTION_RUN_HELP);
	assert_int_equal(LINE("--help", "run")->action, ACTION_RUN_HELP);
	assert_int_equal(LINE("help", "doctor")->action, ACTION_DOCTOR_HELP);
	assert_int_equal(LINE("help", "stats")->action, ACTION_STATS_HELP);
	assert_int_equal(LINE("help", "list")->action, ACTION_LIST_HELP);
	assert_int_equal(LINE("list", "--help")->action, ACTION_LIST_HELP);
	assert_int_equal(LINE("list", "-h")->action, ACTION_LIST_HELP);
	assert_int_equal(LINE("list")->action, ACTION_LIST);
	assert_int_equal(LINE("version")->action, ACTION_VERSION);
	assert_int_equal(LINE("version", "--help")->action, ACTION_HELP);
	assert_int_equal(LINE("-h")->action, ACTION_HELP);
	assert_int_equal(LINE("--version")->action, ACTION_VERSION);
	assert_int_equal(LINE("run", "--help")->action, ACTION_RUN_HELP);
	assert_int_equal(LINE("run", "-h")->action, ACTION_RUN_HELP);
	assert_int_equal(LINE("run", "-c", "2", "--help", "--bogus")->action, ACTION_RUN_HELP);
	assert_int_equal(LINE("run")->action, ACTION_RUN);
}

static void test_defaults(void **state)
{
	static const char *const unset[] = {"kernel", "initrd", "cmdline", "cpus", "cpus.pit",
		"cpus.idle", "cpus.halt-poll-ns", "memory", "memory.hugepages", "memory.node",
		"memory.prealloc", "memory.lock", "disk0", "net0", "numa0", "transport", "rng",
		"name", "cpu"};

	(void)state;
	LINE("run");
	for (size_t i = 0; i < sizeof(unset) / sizeof(unset[0]); i++)
		expect(unset[i], NULL);
	assert_int_equal(current.run.serial.mode, SERIAL_STDIO);
	assert_int_equal(current.run.timeout_ns, 0);
	assert_false(current.run.reboot);
	assert_false(current.run.stats.wanted);
	assert_null(current.run.dump_dtb);
}

static void test_strings(void **state)
{
	(void)state;
	LINE("run", "-k", "vmlinuz", "--initrd=initrd.img", "-aconsole=ttyS0");
	expect("kernel", "vmlinuz");
	expect("initrd", "initrd.img");
	expect("cmdline", "console=ttyS0");
	// An option's value may look like an option, and the last one counts.
	LINE("run", "--cmdline", "--kernel", "--cmdline", "", "--kernel", "k,l");
	expect("cmdline", "");
	expect("kernel", "k,l");
	assert_string_equal(LINE("run", "--dump-dtb", "-")->run.dump_dtb, "-");
	assert_true(LINE("run", "--reboot")->run.reboot);
}

static void test_cpus(void **state)
{
	(void)state;
	LINE("run", "--cpus", "64");
	expect("cpus.count", "64");
	LINE("run", "--cpus=007");
	expect("cpus.count", "7");
	LINE("run", "-c", "2,pit=on");
	expect("cpus.pit", "on");
	LINE("run", "-c", "2,pit=on", "-c", "2");
	expect("cpus.pit", NULL);
	expect("cpus", "2");
	LINE("run", "-c", "1,idle=poll");
	expect("cpus.idle", "poll");
	LINE("run", "-c", "1,idle=mwait");
	expect("cpus.idle", "mwait");
	LINE("run", "-c", "1,halt-poll-ns=0");
	expect("cpus.halt-poll-ns", "0");
	LINE("run", "-c", "1,halt-poll-ns=4294967295");
	expect("cpus.halt-poll-ns", "4294967295");
	LINE("run", "-c", "24,topology=2x1x6x2,pit=on");
	expect("cpus.topology", "2x1x6x2");
}

static void test_cpu(void **state)
{
	(void)state;
	LINE("run", "--cpu", "Haswell,-rdrand,tsc-khz=2000000,+invtsc");
	expect("cpu.model", "Haswell");
	expect("cpu", "Haswell,-rdrand,+invtsc,tsc-khz=2000000");
	LINE("run", "--cpu", "host,tsc-khz=1", "--cpu", "baseline");
	expect("cpu", "baseline");
	assert_int_equal(LINE("run", "--cpu", "?")->action, ACTION_CPU_MODELS);
	assert_int_equal(LINE("run", "--cpu=help", "--bogus")->action, ACTION_CPU_MODELS);
}

static void test_names_and_statistics(void **state)
{
	(void)state;
	LINE("run", "--name", "web-1.b_c");
	expect("name", "web-1.b_c");
	LINE("run", "--name=1x");
	expect("name", "1x");
	assert_true(LINE("run", "--stats")->run.stats.wanted);
	assert_int_equal(current.run.stats.format, STATS_TEXT);
	assert_int_equal(LINE("run", "--stats=text")->run.stats.format, STATS_TEXT);
	assert_int_equal(LINE("run", "--stats=json")->run.stats.format, STATS_JSON);

	assert_int_equal(LINE("list")->action, ACTION_LIST);
	assert_int_equal(LINE("stats")->action, ACTION_LIST);
	assert_int_equal(LINE("stats", "--help")->action, ACTION_STATS_HELP);
	const struct stats_query *query = &LINE("stats", "web")->query;
	assert_int_equal(current.action, ACTION_STATS);
	assert_string_equal(current.guest, "web");
	assert_int_equal(query->format, STATS_TEXT);
	assert_int_equal(query->interval_ns, 0);
	assert_null(query->output);
	LINE("stats", "--prometheus", "12", "--watch=0.5", "--output", "file");
	assert_string_equal(current.guest, "12");
	assert_int_equal(query->format, STATS_PROMETHEUS);
	assert_int_equal(query->interval_ns, 500000000);
	assert_string_equal(query->output, "file");
	LINE("stats", "web", "--json", "--watch");
	assert_int_equal(query->format, STATS_JSON);
	assert_int_equal(query->interval_ns, 1000000000);
	LINE("stats", "a", "--watch=3");
	assert_int_equal(query->interval_ns, 3000000000);
}

static void test_control(void **state)
{
	static const struct {
		const char *command;
		enum action action, help;
	} commands[] = {
		{"pause", ACTION_PAUSE, ACTION_PAUSE_HELP},
		{"resume", ACTION_RESUME, ACTION_RESUME_HELP},
		{"reset", ACTION_RESET, ACTION_RESET_HELP},
		{"stop", ACTION_STOP, ACTION_STOP_HELP},
		{"wait", ACTION_WAIT, ACTION_WAIT_HELP},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		assert_int_equal(LINE(commands[i].command, "web")->action, commands[i].action);
		assert_string_equal(current.guest, "web");
		assert_int_equal(LINE(commands[i].command, "--help")->action, commands[i].help);
		assert_int_equal(LINE("help", commands[i].command)->action, commands[i].help);
	}
	assert_int_equal(LINE("stop", "web")->stop.time_s, 10);
	assert_int_equal(LINE("stop", "--time", "0", "web")->stop.time_s, 0);
	assert_int_equal(LINE("stop", "web", "-t", "60")->stop.time_s, 60);
	assert_string_equal(current.guest, "web");
}

static void test_placement(void **state)
{
	(void)state;
	LINE("run", "-c", "5,pin=8,0-3,pit=on,iothreads=9,12-13,vmm=5");
	expect("cpus.pin", "8,0-3");
	expect("cpus.iothreads", "9,12-13");
	expect("cpus.vmm", "5");
	expect("cpus.pit", "on");
	expect("cpus.sched", NULL);
	LINE("run", "-c", "4,pin=0:2-3,1-2:4,1:6,sched=fifo:99");
	expect("cpus.pin", "0:2-3,1-2:4,1:6");
	expect("cpus.sched", "fifo:99");
	LINE("run", "-c", "2,vmm=0,1,pin=auto,iothreads=3,,4");
	expect("cpus.pin", "auto");
	expect("cpus.vmm", "0-1");
	expect("cpus.iothreads", "3-4");
	// The last one counts, and nothing of the ones before.
	assert_true(LINE("run", "-c", "1,pin=auto,pin=7", "--dry-run")->run.dry_run);
	expect("cpus.pin", "7");
	LINE("run", "-c", "1,pin=7,vmm=1,sched=fifo:1", "-c", "1");
	expect("cpus", "1");
	LINE("run", "-c", "64,pin=0-62,1023");
	expect("cpus.pin", "0-62,1023");
}

static void test_memory(void **state)
{
	static const struct {
		const char *text, *size;
	} sizes[] = {{"4194304", "4M"}, {"4096K", "4M"}, {"512M", "512M"}, {"4096k", "4M"},
		{"4096KB", "4M"}, {"4096KiB", "4M"}, {"4m", "4M"}, {"4MB", "4M"}, {"4mib", "4M"},
		{"4Mi", "4M"}, {"1g", "1G"}, {"1GiB", "1G"}, {"1gb", "1G"}, {"1T", "1T"},
		{"2TiB", "2T"}, {"1tb", "1T"}, {"64T", "64T"}};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		LINE("run", "-k", "k", "-m", sizes[i].text);
		expect("memory.size", sizes[i].size);
	}
	LINE("run", "-m", "1G,hugepages=2MiB");
	expect("memory.hugepages", "2M");
	LINE("run", "-m", "1G,hugepages=1g");
	expect("memory.hugepages", "1G");
	LINE("run", "-m", "4G,hugepages=1G,node=1,prealloc,lock");
	expect("memory", "4G,hugepages=1G,node=1,prealloc,lock");
	LINE("run", "-m", "1G,lock", "-m", "1G,hugepages=2M");
	expect("memory", "1G,hugepages=2M");
	LINE("run", "-m", "1G,merge=on");
	expect("memory.merge", "on");
	LINE("run", "-m", "1G,merge=on,merge=off");
	expect("memory.merge", "off");
}

static void test_numa(void **state)
{
	(void)state;
	LINE("run", "-c", "6", "--numa", "cell=1,cpus=1,3-5,node=2,memory=2G", "--numa",
		"memory=512M,hugepages=2M,cpus=0,2,cell=0");
	expect("numa0", "cell=1,cpus=1,,3-5,memory=2G,node=2");
	expect("numa1", "cell=0,cpus=0,,2,memory=512M,hugepages=2M");
	expect("numa2", NULL);
	LINE("run", "--numa", "cell=0,cpus=0,memory=1G", "-m", "1G,prealloc");
	expect("memory", "1G,prealloc");
}

static void test_disks(void **state)
{
	(void)state;
	LINE("run", "-d", "a.img", "--disk", "b,,c,,,readonly,serial=12345678901234567890", "-d",
		"d,cache=none");
	expect("disk0", "a.img");
	expect("disk1.path", "b,c,");
	expect("disk1.serial", "12345678901234567890");
	expect("disk1.readonly", "on");
	expect("disk2", "d,cache=none");
	expect("disk3", NULL);
	LINE("run", "-d", "a,cache=writethrough", "-d", "b,cache=none,cache=writeback", "-d",
		"c,serial=x,,y");
	expect("disk0.cache", "writethrough");
	expect("disk1.cache", "writeback");
	expect("disk2.serial", "x,y");
	LINE("run", "-d", "a", "-d", "b,queues=16,cache=directsync", "-d",
		"c,queues=1,cache=unsafe,poll-us=0", "-d",
		"d,poll-us=200,iops=500:1000,bps=10M:1G,detect-zeroes=unmap,sqpoll=on,iopoll=off,"
		"format=raw,block-size=4096");
	expect("disk0.queues", NULL);
	expect("disk1", "b,cache=directsync,queues=16");
	expect("disk2", "c,cache=unsafe,queues=1,poll-us=0");
	expect("disk3", "d,poll-us=200,detect-zeroes=unmap,iops=500:1000,bps=10485760:1073741824,"
			"sqpoll=on,iopoll=off,block-size=4K,format=raw");
}

static void test_nets(void **state)
{
	(void)state;
	LINE("run", "--net", "tap=fifteen-bytes15", "--net",
		"tap=t,mac=02:ab:CD:00:ff:10,queues=4,mtu=9000,vhost=off,pps=5:6,bps=1M,poll-us=9",
		"--net", "user,poll-us=0", "--net",
		"user,hostfwd=tcp:127.0.0.1:2222:22,mac=02:ab:cd:00:ff:10,"
		"hostfwd=udp:0.0.0.0:65535:53");
	expect("net0", "tap=fifteen-bytes15");
	expect("net1", "tap=t,mac=02:ab:cd:00:ff:10,queues=4,mtu=9000,vhost=off,poll-us=9,pps=5:6,"
		       "bps=1048576");
	expect("net2", "user,poll-us=0");
	expect("net3", "user,mac=02:ab:cd:00:ff:10,hostfwd=tcp:127.0.0.1:2222:22,"
		       "hostfwd=udp:0.0.0.0:65535:53");
}

static void test_rng(void **state)
{
	(void)state;
	LINE("run", "--rng", "on");
	expect("rng", "on");
	LINE("run", "--rng", "off", "-k", "vmlinuz");
	expect("rng", "off");
	LINE("run", "--rng", "off", "--rng=on");
	expect("rng", "on");
}

static void test_transport(void **state)
{
	(void)state;
	LINE("run", "--transport", "pci");
	expect("transport", "pci");
	LINE("run", "--transport=mmio");
	expect("transport", "mmio");
}

static void test_serial(void **state)
{
	(void)state;
	assert_int_equal(LINE("run", "--serial", "stdio")->run.serial.mode, SERIAL_STDIO);
	assert_int_equal(LINE("run", "--serial", "none")->run.serial.mode, SERIAL_NONE);
	assert_int_equal(LINE("run", "--serial", "pty")->run.serial.mode, SERIAL_PTY);
	assert_int_equal(LINE("run", "--serial", "file:a,b")->run.serial.mode, SERIAL_FILE);
	assert_string_equal(current.run.serial.path, "a,b");
}

static void test_timeout(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} times[] = {{"1", 1000000000}, {"0.5", 500000000}, {"2.000000001", 2000000001},
		{"0.010", 10000000}, {"999999999.999999999", 999999999999999999}};

	(void)state;
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		assert_true(LINE("run", "--timeout", times[i].text)->run.timeout_ns == times[i].ns);
}

// ---- What the tables say of each option

// A feature is a sign and a name, also where it does not come as a word.
static void test_features(void **state)
{
	static const char *const bad[] = {"", "avx", "+", "-", "+a,b", "a,+b"};
	struct vn_cpu_options cpu = {.features = NULL};
	struct veneer_error error;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int ret = vn_option_set(&vn_cpu_option, &cpu, "features", bad[i], &error);
		if (ret != -EINVAL || cpu.features || strcmp(error.key, "cpu.features") != 0)
			fail_msg("'%s': %d, key %s", bad[i], ret, error.key);
	}
	assert_int_equal(vn_option_set(&vn_cpu_option, &cpu, "features", "+avx", &error), 0);
	assert_int_equal(vn_option_set(&vn_cpu_option, &cpu, "features", "-rdrand", &error), 0);
	assert_string_equal(cpu.features, "+avx,-rdrand");
	vn_option_release(&vn_cpu_option, &cpu);
}

// The range and the default of a property are in its row, from which texts are made.
static void check_help(const char *option, const char *prop, const char *help)
{
	static const char digits[] = "0123456789";

	if (strstr(help, "efault"))
		fail_msg("%s.%s: a default in its help", option, prop);
	for (const char *to = strstr(help, " to "); to; to = strstr(to + 1, " to "))
		if (to > help && strchr(digits, to[-1]) && strchr(digits, to[4]))
			fail_msg("%s.%s: a range in its help", option, prop);
}

// An argument that is a list of words is that of the row.
static void check_argument(const char *option, const struct vn_prop *prop)
{
	const char *at = prop->argument;

	if (!prop->words || !strchr(at, '|'))
		return;
	for (size_t i = 0; prop->words[i]; i++) {
		size_t length = strcspn(at, "|");
		if (length != strlen(prop->words[i]) || memcmp(at, prop->words[i], length) != 0)
			fail_msg("%s.%s: %s is not its words", option, prop->name, prop->argument);
		at += length + (at[length] != '\0');
	}
	if (*at)
		fail_msg("%s.%s: %s is more than its words", option, prop->name, prop->argument);
}

enum parsed { NO_VALUE, OTHER_VALUE, SAME_VALUE };

// What `value` is to a field: the same as it has, another, or none that it could have.
static enum parsed parse_value(const struct vn_option *option, const struct vn_prop *prop,
	const char *value, const void *field)
{
	char reason[256];
	struct vn_text why = VN_TEXT(reason);
	char *values = malloc(option->size);
	enum parsed parsed = NO_VALUE;

	assert_non_null(values);
	memcpy(values, option->defaults, option->size);
	memcpy(values + prop->offset, field, prop->width);
	if (prop->type->parse(prop, values + prop->offset, value, &why) == 0)
		parsed = memcmp(values + prop->offset, field, prop->width) == 0 ? SAME_VALUE
										: OTHER_VALUE;
	free(values);
	return parsed;
}

// Whether a field has a value that could have been given, rather than one that stands for something
// else ("any node").
static bool has_value(const struct vn_option *option, const struct vn_prop *prop, const void *field)
{
	if (prop->type == &vn_prop_flag)
		return true;
	if (prop->type == &vn_prop_word) {
		for (size_t i = 0; prop->words[i]; i++)
			if (parse_value(option, prop, prop->words[i], field) == SAME_VALUE)
				return true;
		return false;
	}
	char *text = prop->type->format ? prop->type->format(prop, field) : NULL;
	bool has = text && parse_value(option, prop, text, field) == SAME_VALUE;
	free(text);
	return has;
}

static void check_default(
	const struct vn_option *option, const struct vn_prop *prop, const void *values)
{
	const void *field = (const char *)values + prop->offset;

	if (prop->flags & (VN_PROP_REQUIRED | VN_PROP_KIND)) {
		if (prop->default_text)
			fail_msg("%s.%s: has a default, and must be given", option->name,
				prop->name);
		return;
	}
	if (!prop->default_text)
		fail_msg("%s.%s: has no default", option->name, prop->name);
	// Any text is a string.
	if (prop->type == &vn_prop_string || prop->type == &vn_prop_file)
		return;
	if (parse_value(option, prop, prop->default_text, field) !=
		(has_value(option, prop, field) ? SAME_VALUE : NO_VALUE))
		fail_msg("%s.%s: its default is not '%s'", option->name, prop->name,
			prop->default_text);
}

// What a row says of its default is what a guest gets that is given nothing, or another item of an
// option that there can be many of.
static void test_guest_tables(void **state)
{
	const struct vn_option *option;
	struct veneer_config *config;
	struct veneer_error error;
	struct vn_spec spec;

	(void)state;
	assert_int_equal(veneer_config_new(&config, &error), 0);
	assert_int_equal(vn_spec_make(&spec, config, &error), 0);
	for (unsigned i = 0; (option = vn_config_option(i)); i++) {
		// Defaults of devices depend on the guest, and its spec has them filled in.
		const void *values = option->many || !option->group
					     ? option->defaults
					     : vn_config_values(spec.config, option, 0);
		check_help(option->name, "", option->help);
		for (const struct vn_prop *prop = option->props; prop->name; prop++) {
			check_help(option->name, prop->name, prop->help);
			check_argument(option->name, prop);
			check_default(option, prop, values);
		}
	}
	vn_spec_free(&spec);
	veneer_config_free(config);
}

// A switch of the program's is off unless it is there; what takes a value says what holds without.
static void test_own_tables(void **state)
{
	static const struct {
		const char *name;
		const struct vn_option *option;
	} commands[] = {{"run", &run_option}, {"doctor", &doctor_option}, {"stats", &stats_option}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		for (const struct vn_prop *prop = commands[i].option->props; prop->name; prop++) {
			check_help(commands[i].name, prop->name, prop->help);
			if (!prop->argument)
				continue;
			check_argument(commands[i].name, prop);
			if (!prop->default_text)
				fail_msg("%s.%s: has no default", commands[i].name, prop->name);
		}
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
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_placement),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_numa),
		cmocka_unit_test(test_disks),
		cmocka_unit_test(test_nets),
		cmocka_unit_test(test_rng),
		cmocka_unit_test(test_transport),
		cmocka_unit_test(test_serial),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_guest_tables),
		cmocka_unit_test(test_own_tables),
	};

	return cmocka_run_group_tests(tests, NULL, free_line);
}
