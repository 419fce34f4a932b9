# SPDX-License-Identifier: Apache-2.0
#
# pauses.pl GUEST COUNT: pauses a guest COUNT times, each after 0 to 50 ms and for as long, and prints each one's number.
# It sends what `veneer pause` and `veneer resume` send, over one connection: here a program takes a quarter of a
# second to start. An answer other than "paused" and "running" is an error.
use strict;
use warnings;
use Socket;

my ($guest, $count) = @ARGV;
$| = 1;
socket(my $socket, PF_UNIX, SOCK_STREAM, 0) or die "no socket: $!\n";
connect($socket, sockaddr_un("/run/veneer/$guest.sock")) or die "cannot connect: $!\n";

sub nap {
	select(undef, undef, undef, rand(0.05));
}

# whole ANSWER: its header and as much as that says.
sub whole {
	my ($head, $body) = $_[0] =~ /^(.*?)\r\n\r\n(.*)$/s or return 0;
	my ($length) = $head =~ /^Content-Length: (\d+)/m or return 0;
	return length($body) >= $length;
}

sub ask {
	my ($what, $wanted, $answer) = (@_, '');
	syswrite($socket, "POST /$what HTTP/1.1\r\nHost: veneer\r\n\r\n") or die "cannot ask to $what: $!\n";
	until (whole($answer)) {
		sysread($socket, $answer, 4096, length($answer)) or die "no answer to $what, but '$answer'\n";
	}
	$answer =~ /^HTTP\/1\.1 200 .*"state":"$wanted"/s or die "asked to $what, it says: $answer\n";
}

for my $number (1 .. $count) {
	nap();
	ask('pause', 'paused');
	nap();
	ask('resume', 'running');
	print "$number\n";
}
