/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Synced data survives a power cut: `synced write` makes files until the machine is killed, `synced
 * check N` checks the first N files. A file is written under another name, synced, renamed, and its
 * directory synced; then "synced NUMBER" is printed.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LARGEST = 200000 };
static uint8_t data[LARGEST], back[LARGEST];

static size_t make_contents(unsigned number)
{
	size_t size = number * 7919u % LARGEST + 1;

	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(number * 31 + i + (i >> 8));
	return size;
}

static int write_file(unsigned number, int dir)
{
	size_t size = make_contents(number);
	char name[64];
	int fd = open("/synced/new", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	snprintf(name, sizeof(name), "/synced/%u", number);
	if (fd < 0 || write(fd, data, size) != (ssize_t)size || fsync(fd) != 0 || close(fd) != 0)
		return 0;
	return rename("/synced/new", name) == 0 && fsync(dir) == 0;
}

static int file_is_right(unsigned number)
{
	size_t size = make_contents(number);
	char name[64];
	int fd, same;

	snprintf(name, sizeof(name), "/synced/%u", number);
	if ((fd = open(name, O_RDONLY)) < 0)
		return 0;
	same = read(fd, back, LARGEST) == (ssize_t)size && memcmp(back, data, size) == 0;
	close(fd);
	return same;
}

int main(int argc, char **argv)
{
	unsigned n = 1, bad = 0;
	int dir;

	if (argc == 3 && strcmp(argv[1], "check") == 0) {
		for (n = 1; n <= (unsigned)atoi(argv[2]); n++)
			if (!file_is_right(n)) {
				printf("file %u is not what was synced\n", n);
				bad++;
			}
		return bad != 0;
	}
	mkdir("/synced", 0700);
	sync();
	dir = open("/synced", O_RDONLY);
	for (; write_file(n, dir); n++) {
		printf("synced %u\n", n);
		fflush(stdout);
	}
	return 1;
}
