<?php
// SPDX-License-Identifier: BSD-2-Clause
// Arrays that are copied when one of two is written, sorted and joined: arrays.php COUNT
$count = (int)$argv[1];
$x = 777;
$rows = [];
for ($i = 0; $i < $count; $i++) {
    $x = ($x * 1103515245 + 12345) & 0x7fffffff;
    $rows[] = ['id' => $i, 'town' => $x % 997, 'name' => sprintf('person %08x of the town', $x)];
}
$copy = $rows;
foreach ($copy as $i => $row)
    if ($i % 3 == 0)
        $copy[$i]['name'] = strrev($row['name']);
usort($copy, fn($a, $b) => [$a['town'], $a['id']] <=> [$b['town'], $b['id']]);
$towns = [];
foreach ($copy as $row)
    $towns[$row['town']][] = $row['name'];
$hash = hash_init('sha256');
foreach ($towns as $town => $names)
    hash_update($hash, $town . ':' . implode(',', $names));
foreach ($rows as $row)
    hash_update($hash, $row['name']);
echo count($towns), ' towns, ', hash_final($hash), "\n";
