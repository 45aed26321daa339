/// HDF5 behind functions that Swift can call: the library's identifiers are macros that open it on first use, and some
/// types changed between the releases 1.10 and 1.12.
#ifndef CHDF5_SHIM_H
#define CHDF5_SHIM_H

#include <hdf5.h>
#include <stdint.h>
#include <string.h>

static inline hid_t chdf5_native_float(void) { return H5T_NATIVE_FLOAT; }
static inline hid_t chdf5_native_double(void) { return H5T_NATIVE_DOUBLE; }
static inline hid_t chdf5_native_int64(void) { return H5T_NATIVE_INT64; }
static inline hid_t chdf5_native_uint64(void) { return H5T_NATIVE_UINT64; }
static inline hid_t chdf5_native_uint32(void) { return H5T_NATIVE_UINT32; }
static inline hid_t chdf5_native_uint16(void) { return H5T_NATIVE_UINT16; }
static inline hid_t chdf5_native_uint8(void) { return H5T_NATIVE_UINT8; }
static inline hid_t chdf5_ieee_f32(void) { return H5T_IEEE_F32LE; }
static inline hid_t chdf5_ieee_f64(void) { return H5T_IEEE_F64LE; }
static inline hid_t chdf5_std_i64(void) { return H5T_STD_I64LE; }
static inline hid_t chdf5_std_u32(void) { return H5T_STD_U32LE; }
static inline hid_t chdf5_std_u8(void) { return H5T_STD_U8LE; }
static inline hid_t chdf5_c_string(void) { return H5T_C_S1; }
static inline size_t chdf5_variable(void) { return H5T_VARIABLE; }

static inline hid_t chdf5_file_access_class(void) { return H5P_FILE_ACCESS; }
static inline hid_t chdf5_file_create_class(void) { return H5P_FILE_CREATE; }
static inline hid_t chdf5_group_create_class(void) { return H5P_GROUP_CREATE; }
static inline hid_t chdf5_link_create_class(void) { return H5P_LINK_CREATE; }
static inline hid_t chdf5_dataset_create_class(void) { return H5P_DATASET_CREATE; }
static inline hid_t chdf5_dataset_access_class(void) { return H5P_DATASET_ACCESS; }

/// The filter at a place in a pipeline.
static inline H5Z_filter_t chdf5_filter(hid_t creation, unsigned index) {
    unsigned flags, settings;
    size_t elements = 0;
    return H5Pget_filter2(creation, index, &flags, &elements, NULL, 0, NULL, &settings);
}

/// Whether files are opened as one plain file each.
static inline int chdf5_is_plain_file(hid_t access) { return H5Pget_driver(access) == H5FD_SEC2; }

/// Opens files without locking them, where the library can.
static inline herr_t chdf5_do_not_lock(hid_t access) {
#if H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 12, 0) || H5_VERSION_GE(1, 12, 1)
    return H5Pset_file_locking(access, 0, 1);
#else
    (void)access;
    return 0;
#endif
}

static inline unsigned chdf5_read_only(void) { return H5F_ACC_RDONLY; }
static inline unsigned chdf5_truncate(void) { return H5F_ACC_TRUNC; }

/// A little-endian binary floating-point type of 16 bits; negative on failure.
static inline hid_t chdf5_float16(size_t exponent_bits, size_t fraction_bits, size_t bias) {
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    if (type < 0) return type;
    if (H5Tset_fields(type, 15, fraction_bits, exponent_bits, 0, fraction_bits) < 0 || H5Tset_precision(type, 16) < 0 ||
        H5Tset_size(type, 2) < 0 || H5Tset_ebias(type, bias) < 0) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

/// What `chdf5_links` calls for each link; a negative return stops.
typedef int (*chdf5_link_visitor)(void *context, const char *name);

struct chdf5_visit {
    chdf5_link_visitor visitor;
    void *context;
};

static inline herr_t chdf5_visit_link(hid_t group, const char *name, const H5L_info_t *info, void *data) {
    (void)group;
    (void)info;
    struct chdf5_visit *visit = (struct chdf5_visit *)data;
    return visit->visitor(visit->context, name);
}

/// Calls the visitor for every link of a group in the order of the names.
static inline herr_t chdf5_links(hid_t group, chdf5_link_visitor visitor, void *context) {
    struct chdf5_visit visit = {visitor, context};
    hsize_t index = 0;
    return H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, &index, chdf5_visit_link, &visit);
}

/// What a link of a group is, and how many bytes say where it leads; negative on failure.
static inline int chdf5_link_type(hid_t group, const char *name, size_t *value_bytes) {
    H5L_info_t info;
    if (H5Lget_info(group, name, &info, 0) < 0) return -1;
    *value_bytes = info.type == H5L_TYPE_HARD ? 0 : info.u.val_size;
    return (int)info.type;
}

/// 16 bytes that are the same for two identifiers of one object of a file.
static inline herr_t chdf5_identity(hid_t object, uint8_t identity[16]) {
    memset(identity, 0, 16);
#if H5_VERSION_GE(1, 12, 0)
    H5O_info2_t info;
    herr_t status = H5Oget_info3(object, &info, H5O_INFO_BASIC);
    memcpy(identity, &info.token, sizeof info.token < 16 ? sizeof info.token : 16);
#else
    H5O_info_t info;
    herr_t status = H5Oget_info2(object, &info, H5O_INFO_BASIC);
    memcpy(identity, &info.addr, sizeof info.addr);
#endif
    return status;
}

// The header declares it only for programs that ask for all of GNU's extensions.
extern int memfd_create(const char *name, unsigned flags);

/// A descriptor of an empty file in memory that is closed when another program is run; negative on failure.
static inline int chdf5_memory_file(void) { return memfd_create("abandoned", 1U); }

#endif
