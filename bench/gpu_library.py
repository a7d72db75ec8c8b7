"""libquern_gpu.so for Python: ops and training steps on memory that somebody else owns.

The structs mirror kernels/kernels.h, kernels/attrs.h and bench/gpu/gpu_entry.h. Needs only ctypes;
tensors are given by address, so PyTorch's data_ptr() does.
"""

import ctypes as c

F32, F64, BF16, F16, I32, I64, U8 = range(7)
GELU_TANH, SILU = 2, 4
MAX_DIMS = 6
STATUS_DEVICE = 6


class Failure(Exception):
    """A qn_status that is not OK; `lost`: the device will answer nothing any more."""

    def __init__(self, status, message):
        super().__init__(message)
        self.lost = status == STATUS_DEVICE


class Tensor(c.Structure):
    _fields_ = [("data", c.c_void_p), ("dtype", c.c_int), ("ndim", c.c_int),
                ("shape", c.c_int64 * MAX_DIMS), ("stride", c.c_int64 * MAX_DIMS)]


class LinearAttrs(c.Structure):
    _fields_ = [("activation", c.c_int)]


class ActivationAttrs(c.Structure):
    _fields_ = [("kind", c.c_int)]


class NormAttrs(c.Structure):
    _fields_ = [("eps", c.c_double)]


class AttentionAttrs(c.Structure):
    _fields_ = [("scale", c.c_double), ("dropout", c.c_double), ("causal", c.c_bool),
                ("window", c.c_int64)]


class DropoutAttrs(c.Structure):
    _fields_ = [("p", c.c_double)]


class LossAttrs(c.Structure):
    _fields_ = [("ignore_index", c.c_int64), ("label_smoothing", c.c_double), ("chunk", c.c_int64)]


class Segment(c.Structure):
    _fields_ = [("offset", c.c_int64), ("count", c.c_int64), ("lr_scale", c.c_double), ("weight_decay", c.c_double)]


class UpdateAttrs(c.Structure):
    _fields_ = [("beta1", c.c_double), ("beta2", c.c_double), ("eps", c.c_double), ("momentum", c.c_double),
                ("dampening", c.c_double), ("nesterov", c.c_bool), ("stochastic_rounding", c.c_bool),
                ("n_segments", c.c_int), ("segments", c.POINTER(Segment))]


class Model(c.Structure):
    _fields_ = [(name, c.c_int64) for name in
                ("vocab_size", "hidden_size", "layers", "heads", "positions", "batch_size", "accumulate")]
    _fields_ += [(name, c.c_double) for name in ("lr", "weight_decay", "beta1", "beta2", "eps", "clip_norm")]
    _fields_ += [("seed", c.c_int64), ("precision", c.c_char_p), ("device", c.c_char_p)]


def tensor(address, dtype, shape, stride=None):
    t = Tensor(data=address, dtype=dtype, ndim=len(shape))
    if stride is None:
        stride, step = [], 1
        for n in reversed(shape):
            stride.insert(0, step)
            step *= n
    for i, n in enumerate(shape):
        t.shape[i], t.stride[i] = n, stride[i]
    return t


class Library:
    def __init__(self, path, device):
        self.lib, self.device = c.CDLL(path), device.encode()
        lib = self.lib
        lib.qn_gpu_error.restype = c.c_char_p
        lib.qn_gpu_run.argtypes = [c.c_void_p, c.c_void_p]
        lib.qn_gpu_close.argtypes = [c.c_void_p]
        lib.qn_gpu_cost.argtypes = [c.c_void_p, c.POINTER(c.c_double), c.POINTER(c.c_double)]
        lib.qn_gpu_open.argtypes = [c.c_char_p, c.c_char_p, c.c_void_p, c.c_void_p, c.c_void_p, c.c_size_t,
                                    c.c_uint32, c.c_void_p]
        lib.qn_gpu_train_close.argtypes = [c.c_void_p]
        lib.qn_gpu_train_param.argtypes = [c.c_void_p, c.c_int, c.c_void_p, c.c_void_p, c.c_void_p]
        lib.qn_gpu_train_set.argtypes = [c.c_void_p, c.c_int, c.c_void_p, c.c_int64]
        lib.qn_gpu_train_step.argtypes = [c.c_void_p] * 5
        lib.qn_gpu_train_steps.argtypes = [c.c_void_p, c.c_void_p, c.c_void_p, c.c_int64, c.c_void_p]
        lib.qn_gpu_train_memory.argtypes = [c.c_void_p] * 3
        text = c.create_string_buffer(256)
        self.check(lib.qn_gpu_start(self.device, text, c.c_size_t(256)))
        self.description = text.value.decode()

    def check(self, status):
        if status:
            raise Failure(status, self.lib.qn_gpu_error().decode())

    def op(self, name, inputs, outputs, attrs=None, accumulate=0):
        """inputs, outputs: a Tensor or None per slot of the op's row."""
        return Call(self, name, inputs, outputs, attrs, accumulate)


class Call:
    """A prepared call; the tensors' storage must outlive it."""

    def __init__(self, library, name, inputs, outputs, attrs, accumulate):
        def slots(tensors, n):
            array = (c.POINTER(Tensor) * n)()
            for i, t in enumerate(tensors):
                if t is not None:
                    array[i] = c.pointer(t)
            return array

        self.library, self.handle, self.attrs = library, c.c_void_p(), attrs
        library.check(library.lib.qn_gpu_open(
            name.encode(), library.device, slots(inputs, 12), slots(outputs, 8),
            c.byref(attrs) if attrs is not None else None, c.sizeof(attrs) if attrs is not None else 0,
            accumulate, c.byref(self.handle)))

    def run(self, stream=None):
        self.library.check(self.library.lib.qn_gpu_run(self.handle, stream))

    def cost(self):
        bytes_, flops = c.c_double(), c.c_double()
        self.library.lib.qn_gpu_cost(self.handle, c.byref(bytes_), c.byref(flops))
        return bytes_.value, flops.value

    def close(self):
        self.library.lib.qn_gpu_close(self.handle)
        self.handle = c.c_void_p()


class Training:
    """GPT-2 step by step; tokens and targets are addresses of i32 (accumulate, batch, positions)."""

    def __init__(self, library, precision, **model):
        self.library, self.handle = library, c.c_void_p()
        m = Model(precision=precision.encode(), device=library.device, **model)
        library.check(library.lib.qn_gpu_train_open(c.byref(m), c.byref(self.handle)))

    def parameters(self):
        """(index, Hugging Face's name, stored transposed, count) of each."""
        i = 0
        while True:
            name, transposed, count = c.c_char_p(), c.c_int(), c.c_int64()
            if not self.library.lib.qn_gpu_train_param(self.handle, i, c.byref(name), c.byref(transposed),
                                                       c.byref(count)):
                return
            yield i, name.value.decode(), bool(transposed.value), count.value
            i += 1

    def set(self, i, address, count):
        self.library.check(self.library.lib.qn_gpu_train_set(self.handle, i, address, count))

    def step(self, tokens, targets):
        loss, norm = c.c_double(), c.c_double()
        self.library.check(self.library.lib.qn_gpu_train_step(self.handle, tokens, targets, c.byref(loss),
                                                              c.byref(norm)))
        return loss.value, norm.value

    def steps(self, tokens, targets, n):
        seconds = c.c_double()
        self.library.check(self.library.lib.qn_gpu_train_steps(self.handle, tokens, targets, n, c.byref(seconds)))
        return seconds.value

    def memory(self):
        run, pool = c.c_int64(), c.c_int64()
        self.library.lib.qn_gpu_train_memory(self.handle, c.byref(run), c.byref(pool))
        return run.value + pool.value

    def close(self):
        self.library.lib.qn_gpu_train_close(self.handle)
        self.handle = c.c_void_p()
