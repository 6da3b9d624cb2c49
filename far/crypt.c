/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Encryption of the data that leaves the machine: AES-256-XTS of OpenSSL, one sector of FAR_SECTOR
 * bytes at a time, the sector's number as the tweak (IEEE 1619). The key is made at start, kept in
 * locked memory that no core file has, and wiped at the end: the disk or the server then has only
 * noise. XTS does not detect changes. The store's sums, which stay in this machine's memory, detect
 * them: altered data decrypts to noise, and data stored earlier at the same place has another sum.
 * XTS and not GCM: a place is written many times, and GCM under one key needs a nonce that is never
 * reused.
 */
#include "far/far.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define KEY_BYTES 64       /* two AES-256 keys: one for the data, one for the tweak */
#define VAULT_BYTES 32768u /* locked memory: the key, and the key schedules of OpenSSL */

struct far_crypt {
	unsigned char key[KEY_BYTES];
	EVP_CIPHER_CTX *seal, *unseal; /* contexts in the vault, with their key schedules */
};

/*
 * The vault: locked memory that is in no core file and in no child. While the vault is open,
 * OpenSSL allocates there, so that the key schedules, which begin with the key itself, lie nowhere
 * else. One thread; one key a process.
 */
static struct {
	char *mem; /* NULL: there is none */
	size_t used;
	bool open;
} vault;

/* ---- OpenSSL's memory ---- */
static bool is_in_vault(const void *p)
{
	return vault.mem != NULL && (const char *)p >= vault.mem &&
	    (const char *)p < vault.mem + VAULT_BYTES;
}

/* Allocates n bytes of the locked memory. n is stored 16 bytes before them. */
static void *take_from_vault(size_t n)
{
	size_t room = (n + 15) / 16 * 16 + 16;
	char *p = vault.mem + vault.used;

	if (n > VAULT_BYTES || room > VAULT_BYTES - vault.used)
		return NULL;
	vault.used += room;
	memcpy(p, &n, sizeof n);
	return p + 16;
}

static void *crypto_malloc(size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	return vault.open ? take_from_vault(n) : malloc(n);
}

static void crypto_free(void *p, const char *file, int line)
{
	(void)file;
	(void)line;
	if (!is_in_vault(p)) /* the vault is wiped as a whole */
		free(p);
}

static void *crypto_realloc(void *p, size_t n, const char *file, int line)
{
	size_t had;
	void *to;

	if (!is_in_vault(p) && !(p == NULL && vault.open))
		return realloc(p, n);
	to = crypto_malloc(n, file, line);
	if (to == NULL || p == NULL)
		return to;
	memcpy(&had, (char *)p - 16, sizeof had);
	memcpy(to, p, had < n ? had : n);
	return to;
}

/* ---- the key ---- */
static void *refuse_key(char why[FAR_WHY], const char *what)
{
	(void)snprintf(why, FAR_WHY, "encryption: %s", what);
	return NULL;
}

static bool make_vault(char why[FAR_WHY])
{
	void *p =
	    mmap(NULL, VAULT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return refuse_key(why, "no memory") != NULL;
	if (madvise(p, VAULT_BYTES, MADV_DONTDUMP) != 0 ||
	    madvise(p, VAULT_BYTES, MADV_WIPEONFORK) != 0 || mlock(p, VAULT_BYTES) != 0) {
		(void)munmap(p, VAULT_BYTES);
		return refuse_key(why, "the key's memory cannot be locked (ulimit -l)") != NULL;
	}
	vault.mem = p;
	vault.used = 0;
	return true;
}

/* The cipher is fetched before the vault is open: a fetch takes much memory and has no key. */
static bool make_schedules(struct far_crypt *c)
{
	EVP_CIPHER *xts = EVP_CIPHER_fetch(NULL, "AES-256-XTS", NULL);
	bool ok;

	if (xts == NULL)
		return false;
	vault.open = true;
	c->seal = EVP_CIPHER_CTX_new();
	c->unseal = EVP_CIPHER_CTX_new();
	ok = c->seal != NULL && c->unseal != NULL &&
	    EVP_EncryptInit_ex2(c->seal, xts, c->key, NULL, NULL) == 1 &&
	    EVP_DecryptInit_ex2(c->unseal, xts, c->key, NULL, NULL) == 1;
	vault.open = false;
	EVP_CIPHER_free(xts); /* the contexts hold a reference to the cipher */
	return ok;
}

struct far_crypt *far_crypt_new(char why[FAR_WHY])
{
	struct far_crypt *c;

	if (vault.mem != NULL ||
	    CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free) != 1)
		return refuse_key(why, "OpenSSL takes no memory of ours");
	if (!make_vault(why))
		return NULL;
	if ((c = take_from_vault(sizeof *c)) == NULL)
		return refuse_key(why, "no memory");
	if (getrandom(c->key, sizeof c->key, 0) != (ssize_t)sizeof c->key) {
		far_crypt_free(c);
		return refuse_key(why, "the kernel gives no random numbers");
	}
	if (!make_schedules(c)) {
		far_crypt_free(c);
		return refuse_key(why, "OpenSSL has no AES-256-XTS");
	}
	return c;
}

void far_crypt_free(struct far_crypt *c)
{
	if (c == NULL)
		return;
	EVP_CIPHER_CTX_free(c->seal);
	EVP_CIPHER_CTX_free(c->unseal);
	explicit_bzero(vault.mem, VAULT_BYTES);
	(void)munmap(vault.mem, VAULT_BYTES);
	vault.mem = NULL;
}

static void tweak_of(uint64_t sector, unsigned char iv[16])
{
	memset(iv, 0, 16);
	for (unsigned i = 0; i < 8; i++)
		iv[i] = (unsigned char)(sector >> 8 * i);
}

/* Encrypts or decrypts in place, as ctx was set up, a sector at a time: its number is the tweak. */
static bool crypt_sectors(EVP_CIPHER_CTX *ctx, unsigned char *p, uint32_t len, uint64_t at)
{
	unsigned char iv[16];

	for (uint32_t i = 0; i < len; i += FAR_SECTOR) {
		int n = 0;

		tweak_of((at + i) / FAR_SECTOR, iv);
		if (EVP_CipherInit_ex(ctx, NULL, NULL, NULL, iv, -1) != 1 ||
		    EVP_CipherUpdate(ctx, p + i, &n, p + i, FAR_SECTOR) != 1 ||
		    n != (int)FAR_SECTOR)
			return false;
	}
	return true;
}

bool far_seal(struct far_crypt *c, void *buf, uint32_t len, uint64_t at)
{
	return crypt_sectors(c->seal, buf, len, at);
}

bool far_unseal(struct far_crypt *c, void *buf, uint32_t len, uint64_t at)
{
	return crypt_sectors(c->unseal, buf, len, at);
}
