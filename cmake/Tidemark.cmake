# Flags, packages and the one way a folder of engine/ becomes a library.

find_package(PkgConfig REQUIRED)
pkg_check_modules(JSONC REQUIRED IMPORTED_TARGET json-c>=0.15)
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET libcrypto>=3.0)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl>=7.85)
pkg_check_modules(RDKAFKA REQUIRED IMPORTED_TARGET rdkafka>=2.0.2)
pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1>=0.2.5)
pkg_check_modules(MICROHTTPD REQUIRED IMPORTED_TARGET libmicrohttpd>=0.9.75)
pkg_check_modules(SQLITE REQUIRED IMPORTED_TARGET sqlite3>=3.34)
pkg_check_modules(CUNIT REQUIRED IMPORTED_TARGET cunit>=2.1)
pkg_check_modules(NLOHMANN REQUIRED IMPORTED_TARGET nlohmann_json>=3.9)
find_package(Threads REQUIRED)
# libvalijson is headers only and has no .pc file.
find_path(VALIJSON_INCLUDE valijson/schema_parser.hpp REQUIRED)
add_library(valijson INTERFACE)
target_include_directories(valijson SYSTEM INTERFACE ${VALIJSON_INCLUDE})
target_link_libraries(valijson INTERFACE PkgConfig::NLOHMANN)
# libjq has no .pc file in Debian.
find_library(JQ_LIBRARY jq REQUIRED)
find_path(JQ_INCLUDE jq.h REQUIRED)
add_library(jq INTERFACE)
target_include_directories(jq INTERFACE ${JQ_INCLUDE})
target_link_libraries(jq INTERFACE ${JQ_LIBRARY})

add_library(tm_flags INTERFACE)
target_compile_definitions(tm_flags INTERFACE _GNU_SOURCE TIDEMARK_VERSION="${PROJECT_VERSION}")
target_compile_options(tm_flags INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wvla -Wno-unused-parameter -Wno-missing-field-initializers
  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition>
  -fno-common -fstack-protector-strong)
target_include_directories(tm_flags INTERFACE ${CMAKE_SOURCE_DIR}/engine)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_options(tm_flags INTERFACE -g1 -D_FORTIFY_SOURCE=2)
endif()
if(TIDEMARK_FAILPOINTS)
  target_compile_definitions(tm_flags INTERFACE TIDEMARK_FAILPOINTS)
endif()
if(TIDEMARK_ASAN)
  target_compile_options(tm_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  target_link_options(tm_flags INTERFACE -fsanitize=address,undefined)
endif()
# What tidemark and the unit programs link: under ThreadSanitizer librdkafka's threads in a form that it knows.
add_library(tm_program INTERFACE)
if(TIDEMARK_TSAN)
  target_compile_options(tm_flags INTERFACE -fsanitize=thread -fno-omit-frame-pointer)
  target_link_options(tm_flags INTERFACE -fsanitize=thread)
  target_sources(tm_program INTERFACE ${CMAKE_SOURCE_DIR}/tests/tools/c11_threads.c)
endif()

if(TIDEMARK_FUZZ)
  target_compile_options(tm_flags INTERFACE -UNDEBUG) # assertions are rules too
endif()

# tm_module(NAME [USES module|target ...]): library tm_NAME from every .c and .cc file of the folder.
function(tm_module name)
  cmake_parse_arguments(M "" "" "USES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  if(NOT sources)
    add_library(tm_${name} INTERFACE)
    target_link_libraries(tm_${name} INTERFACE ${M_USES} tm_flags)
    return()
  endif()
  add_library(tm_${name} STATIC ${sources})
  target_link_libraries(tm_${name} PUBLIC ${M_USES} tm_flags)
endfunction()

# tm_unit(FOLDER [USES target ...]): test program unit_FOLDER from tests/unit/FOLDER/*.c.
function(tm_unit folder)
  cmake_parse_arguments(M "" "" "USES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/unit/${folder}/*.c)
  if(NOT sources)
    return()
  endif()
  add_executable(unit_${folder} ${sources} ${CMAKE_CURRENT_SOURCE_DIR}/unit/main.c)
  target_include_directories(unit_${folder} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/unit)
  # Where tests find files of the repository: __FILE__ may be relative, as with ccache's base folder.
  target_compile_definitions(unit_${folder} PRIVATE TM_ROOT="${PROJECT_SOURCE_DIR}")
  target_link_libraries(unit_${folder} PRIVATE tm_program tm_${folder} ${M_USES} PkgConfig::CUNIT)
  add_test(NAME unit_${folder} COMMAND unit_${folder})
endfunction()
