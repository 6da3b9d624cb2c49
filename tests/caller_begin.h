/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between this header and caller_end.h lie helpers of tests. A failing assertion in such a helper
 * names the line of the test that called the helper, and not the helper's own line, which all tests
 * share.
 *
 * How: behind caller_end.h each helper's name is defined as a macro that notes file and line of its use, with CALLER:
 *
 *     #define put(...) (CALLER, (put)(__VA_ARGS__))
 *
 * A helper that calls another one keeps the line that its own caller noted. One thread at a time.
 */
#include <cmocka.h>

#ifndef QUIRE_TESTS_CALLER_H
#define QUIRE_TESTS_CALLER_H
__attribute__((unused)) static const char *caller_file = "not called by a test";
__attribute__((unused)) static int caller_line;
static inline void caller_is(const char *file, int line)
{
	caller_file = file;
	caller_line = line;
}
#define CALLER caller_is(__FILE__, __LINE__)
#endif

#pragma push_macro("assert_true")
#pragma push_macro("assert_false")
#pragma push_macro("assert_null")
#pragma push_macro("assert_non_null")
#pragma push_macro("assert_int_equal")
#pragma push_macro("assert_int_not_equal")
#pragma push_macro("assert_ptr_not_equal")
#pragma push_macro("assert_memory_equal")
#pragma push_macro("fail")
#undef assert_true
#undef assert_false
#undef assert_null
#undef assert_non_null
#undef assert_int_equal
#undef assert_int_not_equal
#undef assert_ptr_not_equal
#undef assert_memory_equal
#undef fail
#define assert_true(c) _assert_true(cast_to_largest_integral_type(c), #c, caller_file, caller_line)
#define assert_false(c)                                                                            \
	_assert_true(!(cast_to_largest_integral_type(c)), #c, caller_file, caller_line)
#define assert_null(c)                                                                             \
	_assert_true(!(cast_ptr_to_largest_integral_type(c)), #c, caller_file, caller_line)
#define assert_non_null(c)                                                                         \
	_assert_true(cast_ptr_to_largest_integral_type(c), #c, caller_file, caller_line)
#define assert_int_equal(a, b)                                                                     \
	_assert_int_equal(cast_to_largest_integral_type(a), cast_to_largest_integral_type(b),      \
	    caller_file, caller_line)
#define assert_int_not_equal(a, b)                                                                 \
	_assert_int_not_equal(cast_to_largest_integral_type(a), cast_to_largest_integral_type(b),  \
	    caller_file, caller_line)
#define assert_ptr_not_equal(a, b)                                                                 \
	_assert_int_not_equal(cast_ptr_to_largest_integral_type(a),                                \
	    cast_ptr_to_largest_integral_type(b), caller_file, caller_line)
#define assert_memory_equal(a, b, n)                                                               \
	_assert_memory_equal((const void *)(a), (const void *)(b), n, caller_file, caller_line)
#define fail() _fail(caller_file, caller_line)
