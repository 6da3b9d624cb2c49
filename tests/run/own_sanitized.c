/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Built with a sanitizer. Without an argument: fills mapped and allocated memory in two threads,
 * and prints its sum. `show NAME`: prints whether the value of that variable ends as the test set
 * it. `execute`: executes this program without an argument.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BYTES (24u << 20)

static void *fill(void *arg)
{
	unsigned long sum = 0;
	unsigned char *p = arg;

	for (size_t i = 0; i < BYTES; i += 64)
		p[i] = (unsigned char)(i >> 6);
	for (size_t i = 0; i < BYTES; i += 64)
		sum = sum * 31 + p[i];
	return (void *)sum;
}

int main(int argc, char **argv)
{
	unsigned char *mapped = mmap(
			  NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		      *heap;
	pthread_t t;
	void *sum;

	if (argc == 3) {
		const char *v = getenv(argv[2]);
		size_t n = v != NULL ? strlen(v) : 0;

		printf("%s\n", n >= 10 ? v + n - 10 : "none");
		return 0;
	}
	if (argc == 2)
		return execl(argv[0], argv[0], (char *)NULL);
	heap = malloc(BYTES);
	if (heap == NULL || mapped == MAP_FAILED || pthread_create(&t, NULL, fill, mapped) != 0)
		return 1;
	(void)fill(heap);
	if (pthread_join(t, &sum) != 0 || memcmp(heap + 64, mapped + 64, 1) != 0)
		return 2;
	printf("sum %lu\n", (unsigned long)sum);
	free(heap);
	return 0;
}
