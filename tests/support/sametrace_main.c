/* sametrace a.h5 b.h5: whether two traces hold the same objects, values and attributes, times aside (datasets in ns, the timeline, the
 * attributes created and file_time). Prints each difference; 1 where there is one. */
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pair {
    hid_t a, b;
    const char *in;            /* the object whose attributes are compared */
    int objects, differences;
};

static void differ(struct pair *p, const char *where, const char *what)
{
    printf("%s%s%s: %s\n", p->in ? p->in : "", p->in ? " attribute " : "", where, what);
    p->differences++;
}

static size_t bytes_of(hid_t space, hid_t type)
{
    hssize_t n = H5Sget_simple_extent_npoints(space);
    return n > 0 ? (size_t)n * H5Tget_size(type) : 0;
}

/* Same types and extents; values read through `read`. */
static void compare(struct pair *p, const char *where, hid_t a, hid_t b, hid_t type_a, hid_t type_b, hid_t space_a, hid_t space_b,
                    herr_t (*get)(hid_t, hid_t, void *))
{
    if (H5Tequal(type_a, type_b) <= 0 || H5Sextent_equal(space_a, space_b) <= 0) {
        differ(p, where, "another type or shape");
        return;
    }
    size_t n = bytes_of(space_a, type_a);
    char *va = calloc(n + 1, 1), *vb = calloc(n + 1, 1);
    if (H5Tis_variable_str(type_a) > 0) {
        char **sa = (char **)(void *)va, **sb = (char **)(void *)vb;
        if (get(a, type_a, va) < 0 || get(b, type_b, vb) < 0)
            differ(p, where, "can't be read");
        else
            for (size_t i = 0; i < n / sizeof *sa; i++)
                if (strcmp(sa[i], sb[i]))
                    differ(p, where, "another text");
    } else if (get(a, type_a, va) < 0 || get(b, type_b, vb) < 0) {
        differ(p, where, "can't be read");
    } else if (memcmp(va, vb, n)) {
        differ(p, where, "other values");
    }
    free(va);
    free(vb);
}

static herr_t read_dataset(hid_t ds, hid_t type, void *to) { return H5Dread(ds, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, to); }

static herr_t attribute(hid_t obj, const char *name, const H5A_info_t *info, void *arg)
{
    struct pair *p = arg;
    (void)info;
    if (!strcmp(name, "created") || !strcmp(name, "file_time") || !strcmp(name, "DIMENSION_LIST") || !strcmp(name, "REFERENCE_LIST"))
        return 0;
    if (H5Aexists_by_name(p->b, p->in, name, H5P_DEFAULT) <= 0) {
        differ(p, name, "only in the first");
        return 0;
    }
    hid_t a = H5Aopen(obj, name, H5P_DEFAULT), b = H5Aopen_by_name(p->b, p->in, name, H5P_DEFAULT, H5P_DEFAULT);
    hid_t ta = H5Aget_type(a), tb = H5Aget_type(b), sa = H5Aget_space(a), sb = H5Aget_space(b);
    compare(p, name, a, b, ta, tb, sa, sb, H5Aread);
    H5Tclose(ta);
    H5Tclose(tb);
    H5Sclose(sa);
    H5Sclose(sb);
    H5Aclose(a);
    H5Aclose(b);
    return 0;
}

static int is_time(hid_t ds)
{
    char *unit = NULL;
    if (H5Aexists(ds, "units") <= 0)
        return 0;
    hid_t a = H5Aopen(ds, "units", H5P_DEFAULT), t = H5Aget_type(a);
    int ns = H5Tis_variable_str(t) > 0 && H5Aread(a, t, &unit) >= 0 && unit && !strcmp(unit, "ns");
    free(unit);
    H5Tclose(t);
    H5Aclose(a);
    return ns;
}

static herr_t object(hid_t root, const char *name, const H5O_info_t *info, void *arg)
{
    struct pair *p = arg;
    (void)root;
    p->objects++;
    if (strstr(name, "/timeline"))
        return 0;
    if (H5Oexists_by_name(p->b, name, H5P_DEFAULT) <= 0) {
        differ(p, name, "only in the first");
        return 0;
    }
    hid_t a = H5Oopen(p->a, name, H5P_DEFAULT), b = H5Oopen(p->b, name, H5P_DEFAULT);
    if (H5Iget_type(a) != H5Iget_type(b)) {
        differ(p, name, "another kind of object");
    } else if (info->type == H5O_TYPE_DATASET && !is_time(a)) {
        hid_t ta = H5Dget_type(a), tb = H5Dget_type(b), sa = H5Dget_space(a), sb = H5Dget_space(b);
        compare(p, name, a, b, ta, tb, sa, sb, read_dataset);
        H5Tclose(ta);
        H5Tclose(tb);
        H5Sclose(sa);
        H5Sclose(sb);
    }
    p->in = name;
    H5Aiterate2(a, H5_INDEX_NAME, H5_ITER_INC, NULL, attribute, p);
    p->in = NULL;
    H5Oclose(a);
    H5Oclose(b);
    return 0;
}

static herr_t count(hid_t root, const char *name, const H5O_info_t *info, void *arg)
{
    (void)root, (void)name, (void)info;
    ++*(int *)arg;
    return 0;
}

int main(int argc, char **argv)
{
    struct pair p = {.differences = 0};
    int others = 0;
    if (argc != 3)
        return 2;
    p.a = H5Fopen(argv[1], H5F_ACC_RDONLY, H5P_DEFAULT);
    p.b = H5Fopen(argv[2], H5F_ACC_RDONLY, H5P_DEFAULT);
    if (p.a < 0 || p.b < 0)
        return 1;
    H5Ovisit(p.a, H5_INDEX_NAME, H5_ITER_INC, object, &p);
    H5Ovisit(p.b, H5_INDEX_NAME, H5_ITER_INC, count, &others);
    if (others != p.objects)
        printf("%d objects in the first, %d in the second\n", p.objects, others);
    H5Fclose(p.a);
    H5Fclose(p.b);
    return p.differences || others != p.objects;
}
