# SPDX-License-Identifier: Apache-2.0
#
# Numbered datagrams of 8 to 2900 bytes, one about every 10 ms:
#
#   datagrams.pl send ADDRESS PORT FILE   sends them until that file exists, and then how many they were
#   datagrams.pl receive PORT             prints how many came, each once and in its turn, or the first that did not
use strict;
use warnings;
use Socket;

my ($do, @of) = @ARGV;
my $end = 0xffffffff;
socket(my $socket, PF_INET, SOCK_DGRAM, 0) or die "no socket: $!\n";

sub nap {
	select(undef, undef, undef, $_[0]);
}

if ($do eq 'send') {
	my ($address, $port, $file) = @of;
	my $count = 0;
	connect($socket, sockaddr_in($port, inet_aton($address))) or die "cannot connect: $!\n";
	until (-e $file) {
		send($socket, pack('NN', ++$count, 0) . 'x' x rand(2893), 0) or die "cannot send: $!\n";
		nap(rand(0.02));
	}
	for (1 .. 5) {
		nap(0.2);
		send($socket, pack('NN', $end, $count), 0);
	}
} else {
	my $last = 0;
	# Nothing may be lost here: SO_RCVBUFFORCE.
	setsockopt($socket, SOL_SOCKET, 33, 8 << 20) or die "no buffer: $!\n";
	bind($socket, sockaddr_in($of[0], INADDR_ANY)) or die "cannot bind: $!\n";
	while (1) {
		alarm(120);
		defined(recv($socket, my $data, 4096, 0)) or die "cannot receive: $!\n";
		my ($number, $count) = unpack('NN', $data);
		if ($number == $end) {
			$count == $last or die "of $count datagrams, the last that came is number $last\n";
			print "$last\n";
			exit 0;
		}
		$number == $last + 1 or die "number $number came after $last\n";
		$last = $number;
	}
}
