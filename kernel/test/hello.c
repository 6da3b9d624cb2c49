/* SPDX-License-Identifier: BSD-2-Clause */
/* The smallest program; "unknown" makes calls that no kernel has. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "unknown") == 0)
		for (int i = 0; i < 3; i++)
			(void)!syscall(500);
	printf("hello, %s\n", argc > 1 ? argv[1] : "nobody");
	return 0;
}
