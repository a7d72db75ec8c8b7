/* suites.h — the test programs that quern_gpu holds, the most valuable on a GPU first.
 *
 * Each is tests/<name>.c, compiled with its main renamed to <name>_main. The list is read by the
 * build too (CMakeLists.txt, bench/gpu_build.sh): one X(name) a line. test_cuda_device is a suite
 * too; it takes arguments, because it starts itself once more.
 */
#ifndef QN_SUITES_H
#define QN_SUITES_H

/* clang-format off */
#define QN_SUITES(X)                                                                              \
    X(test_cuda_matmul)                                                                           \
    X(test_op_linear)                                                                             \
    X(test_op_attention)                                                                          \
    X(test_op_norm)                                                                               \
    X(test_op_loss)                                                                               \
    X(test_op_update)                                                                             \
    X(test_op_lookup)                                                                             \
    X(test_op_activation)                                                                         \
    X(test_op_elementwise)                                                                        \
    X(test_op_rope)                                                                               \
    X(test_op_reduce)                                                                             \
    X(test_op_shape)                                                                              \
    X(test_op_softmax)                                                                            \
    X(test_op_dropout)                                                                            \
    X(test_op_matmul)
/* clang-format on */

#define QNI_X(name) int name##_main(void);
QN_SUITES(QNI_X)
#undef QNI_X
int test_cuda_device_main(int argc, char **argv);

#endif
