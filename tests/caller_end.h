/* SPDX-License-Identifier: BSD-2-Clause */
/* The end of what caller_begin.h begins: assertions name their own line again. */
#pragma pop_macro("assert_true")
#pragma pop_macro("assert_false")
#pragma pop_macro("assert_null")
#pragma pop_macro("assert_non_null")
#pragma pop_macro("assert_int_equal")
#pragma pop_macro("assert_int_not_equal")
#pragma pop_macro("assert_ptr_not_equal")
#pragma pop_macro("assert_memory_equal")
#pragma pop_macro("fail")
