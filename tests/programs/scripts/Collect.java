// SPDX-License-Identifier: BSD-2-Clause
// A table whose entries are replaced while four threads read it: Collect COUNT
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

public class Collect {
    static String value(int i, int round) {
        StringBuilder s = new StringBuilder("value " + i + " of round " + round);
        for (int k = 0; k < 1 + (i * 31 + round) % 5; k++)
            s.append(", part ").append(Integer.toHexString(i * 2654435 + k * 97 + round));
        return s.toString();
    }

    public static void main(String[] args) throws Exception {
        int count = Integer.parseInt(args[0]);
        Map<Integer, String> table = new HashMap<>();
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        for (int round = 0; round < 5; round++) {
            for (int i = round % 2; i < count; i += 1 + round % 2)
                table.put(i, value(i, round));
            long[] sums = new long[4];
            List<Thread> threads = new ArrayList<>();
            for (int t = 0; t < 4; t++) {
                final int mine = t;
                Thread thread = new Thread(() -> {
                    for (int i = mine; i < count; i += 4)
                        sums[mine] += table.containsKey(i) ? table.get(i).hashCode() : i;
                });
                thread.start();
                threads.add(thread);
            }
            for (Thread thread : threads)
                thread.join();
            for (int i = 0; i < count; i++)
                if (table.containsKey(i))
                    digest.update(table.get(i).getBytes("UTF-8"));
            System.out.println("round " + round + ": " + (sums[0] + sums[1] + sums[2] + sums[3]));
        }
        System.out.println(String.format("%064x", new java.math.BigInteger(1, digest.digest())));
    }
}
