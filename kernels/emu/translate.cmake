# translate.cmake — what CUDA files become.
#
#   quern_cuda(TARGET FILE.cu...)             nvcc's object: host code and device code
#   quern_emulated_cuda(TARGET FILE.cu...)    that very object, and beside it its PTX for sm_80 and
#                                             sm_90a translated to C, as one relocatable object
#   quern_emulated_ptx(TARGET FILE.ptx...)    hand-written PTX translated to C (tests)
#
# Paths are relative to the source root. What ptxas says (registers, shared memory, spills, C75xx
# messages) is kept in build/.../cuda/FILE.ptxas.log.

find_program(QUERN_NVCC nvcc HINTS ENV CUDA_HOME PATH_SUFFIXES bin PATHS /usr/local/cuda)

set(QUERN_CUDA_FLAGS -std=c++17 -O3 -lineinfo -I${CMAKE_SOURCE_DIR} -D_GNU_SOURCE)
# The program is linked as C: no calls into the C++ library.
set(QUERN_CUDA_HOST_FLAGS -Xcompiler=-fno-exceptions,-fno-rtti,-fno-threadsafe-statics)
set(QUERN_CUDA_ARCHITECTURES -gencode arch=compute_80,code=sm_80
    -gencode arch=compute_90a,code=sm_90a)

set(QUERN_TRANSLATED_FLAGS -std=c11 -w -O1 -g1 -fwrapv -ffp-contract=off -fno-strict-aliasing
    -D_GNU_SOURCE -I${CMAKE_SOURCE_DIR})
if(QUERN_NATIVE)
  list(APPEND QUERN_TRANSLATED_FLAGS -march=native)
endif()

function(quern_ptx2c)
  if(NOT TARGET ptx2c)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/emu/ptx2c/*.c)
    add_executable(ptx2c ${sources})
    target_link_libraries(ptx2c PRIVATE quern_flags)
    set_target_properties(ptx2c PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
  endif()
endfunction()

# build/.../cuda/<file without .cu>, its folder made.
function(quern_cuda_base file out)
  string(REGEX REPLACE "\\.[a-z]+$" "" stem ${file})
  set(base ${CMAKE_BINARY_DIR}/cuda/${stem})
  get_filename_component(folder ${base} DIRECTORY)
  file(MAKE_DIRECTORY ${folder})
  set(${out} ${base} PARENT_SCOPE)
endfunction()

function(quern_cuda_object file out)
  quern_cuda_base(${file} base)
  string(JOIN " " command ${QUERN_NVCC} ${QUERN_CUDA_FLAGS} ${QUERN_CUDA_HOST_FLAGS}
    ${QUERN_CUDA_ARCHITECTURES} -Xptxas -v
    -MMD -MF ${base}.d -MT ${base}.o -c ${CMAKE_SOURCE_DIR}/${file} -o ${base}.o)
  add_custom_command(OUTPUT ${base}.o BYPRODUCTS ${base}.ptxas.log
    COMMAND sh -c "${command} >${base}.ptxas.log 2>&1 || { cat ${base}.ptxas.log; exit 1; }"
    DEPENDS ${CMAKE_SOURCE_DIR}/${file} DEPFILE ${base}.d
    COMMENT "CUDA ${file}" VERBATIM)
  set(${out} ${base}.o PARENT_SCOPE)
endfunction()

# ptx, the path of a PTX file, becomes base-arch.emu.o.
function(quern_translate ptx file arch base out)
  set(result ${base}-${arch}.emu)
  add_custom_command(OUTPUT ${result}.o BYPRODUCTS ${result}.c
    # It ends without giving its memory back.
    COMMAND ${CMAKE_COMMAND} -E env ASAN_OPTIONS=detect_leaks=0
      $<TARGET_FILE:ptx2c> ${ptx} ${result}.c --file ${file} --arch ${arch}
    COMMAND ${CMAKE_C_COMPILER} ${QUERN_TRANSLATED_FLAGS} -c ${result}.c -o ${result}.o
    DEPENDS ptx2c ${ptx} ${CMAKE_SOURCE_DIR}/kernels/emu/machine.h
      ${CMAKE_SOURCE_DIR}/kernels/emu/ptx_ops.h
    COMMENT "Emulated CUDA ${file} sm_${arch}" VERBATIM)
  set(${out} ${result}.o PARENT_SCOPE)
endfunction()

function(quern_cuda target)
  foreach(file ${ARGN})
    quern_cuda_object(${file} object)
    target_sources(${target} PRIVATE ${object})
    set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  endforeach()
endfunction()

# One object for host and translated code: a library's user that needs the one gets the other.
function(quern_emulated_cuda target)
  quern_ptx2c()
  foreach(file ${ARGN})
    quern_cuda_object(${file} object)
    quern_cuda_base(${file} base)
    set(parts ${object})
    foreach(arch 80 90)
      set(compute compute_${arch})
      if(arch EQUAL 90)
        set(compute compute_90a)
      endif()
      set(ptx ${base}-${arch}.ptx)
      add_custom_command(OUTPUT ${ptx}
        COMMAND ${QUERN_NVCC} ${QUERN_CUDA_FLAGS} --ptx -gencode arch=${compute},code=${compute}
          -MMD -MF ${ptx}.d -MT ${ptx} ${CMAKE_SOURCE_DIR}/${file} -o ${ptx}
        DEPENDS ${CMAKE_SOURCE_DIR}/${file} DEPFILE ${ptx}.d
        COMMENT "PTX ${file} ${compute}" VERBATIM)
      quern_translate(${ptx} ${file} ${arch} ${base} part)
      list(APPEND parts ${part})
    endforeach()
    set(whole ${base}.emulated.o)
    add_custom_command(OUTPUT ${whole} COMMAND ${CMAKE_LINKER} -r -o ${whole} ${parts}
      DEPENDS ${parts} COMMENT "Joining ${file}" VERBATIM)
    target_sources(${target} PRIVATE ${whole})
    set_source_files_properties(${whole} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  endforeach()
endfunction()

function(quern_emulated_ptx target)
  quern_ptx2c()
  foreach(file ${ARGN})
    quern_cuda_base(${file} base)
    quern_translate(${CMAKE_SOURCE_DIR}/${file} ${file} 90 ${base} object)
    target_sources(${target} PRIVATE ${object})
    set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  endforeach()
endfunction()
