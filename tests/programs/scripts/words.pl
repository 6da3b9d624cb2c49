# SPDX-License-Identifier: BSD-2-Clause
# Lists of records, found by name here and there, changed by a parent and its child, each in its own copy: words.pl COUNT
use strict;
use warnings;
use Digest::SHA;

my ($count, $x, @names, %list) = ($ARGV[0], 4711);
for my $i (0 .. $count - 1) {
    $x = ($x * 1103515245 + 12345) & 0x7fffffff;
    my $name = sprintf("word %07d", $i >> 2);
    push @names, $name unless $i & 3;
    push @{ $list{$name} }, { at => $i, text => "line $i has " . ($x % 1009) . " letters" };
}
my $all = sub {
    my $sha = Digest::SHA->new(256);
    for my $name (@names) {
        my $found = $x % 64 == 0 ? $names[$x % @names] : $name;
        $x = ($x * 1103515245 + 12345) & 0x7fffffff;
        $sha->add($found, map { $_->{text} } sort { $b->{at} <=> $a->{at} } @{ $list{$found} });
    }
    return $sha->hexdigest;
};
pipe(my $from, my $to) or die;
my $pid = fork();
if ($pid == 0) {
    $_->{text} .= "?" for map { @{ $list{$_} } } @names;
    print $to $all->(), "\n";
    exit 0;
}
close $to;
$_->{text} .= "!" for map { @{ $list{$_} } } @names;
my $mine = $all->();
print scalar(@names), " words, child ", scalar(<$from>), "parent $mine\n";
waitpid($pid, 0);
