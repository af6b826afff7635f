/* Functions that Debian's libunwind.a calls and musl lacks: glibc's headers put them in the place of printf's family,
 * and they check the format and the buffer's length before they print. libunwind prints why it ends the process. */

#include <stdarg.h>
#include <stdio.h>

int __vfprintf_chk(FILE *stream, int flag, const char *format, va_list values)
{
    (void)flag;
    return vfprintf(stream, format, values);
}

int __fprintf_chk(FILE *stream, int flag, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    int printed = __vfprintf_chk(stream, flag, format, values);
    va_end(values);
    return printed;
}

int __vsnprintf_chk(char *buffer, size_t size, int flag, size_t room, const char *format, va_list values)
{
    (void)flag;
    return vsnprintf(buffer, size < room ? size : room, format, values);
}

int __snprintf_chk(char *buffer, size_t size, int flag, size_t room, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    int printed = __vsnprintf_chk(buffer, size, flag, room, format, values);
    va_end(values);
    return printed;
}
