# SPDX-License-Identifier: BSD-2-Clause
# Hashes of lists, sorted by two keys, read by a forked child, too: words.pl COUNT
use strict;
use warnings;
use Digest::SHA;

my ($count, $x, %list) = ($ARGV[0], 4711);
for my $i (0 .. $count - 1) {
    $x = ($x * 1103515245 + 12345) & 0x7fffffff;
    push @{ $list{ sprintf("word %05x", $x % 50021) } }, { at => $i, text => "line $i has " . ($x % 1009) . " letters" };
}
my $all = sub {
    my $sha = Digest::SHA->new(256);
    for my $word (sort { @{ $list{$b} } <=> @{ $list{$a} } || $a cmp $b } keys %list) {
        $sha->add($word, map { $_->{text} } sort { $b->{at} <=> $a->{at} } @{ $list{$word} });
    }
    return $sha->hexdigest;
};
pipe(my $from, my $to) or die;
my $pid = fork();
if ($pid == 0) {
    print $to $all->(), "\n";
    exit 0;
}
close $to;
for my $word (keys %list) {
    $_->{text} .= "!" for @{ $list{$word} };
}
my $mine = $all->();
print scalar(keys %list), " words, child ", scalar(<$from>), "parent $mine\n";
waitpid($pid, 0);
