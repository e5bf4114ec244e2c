// A header such as the course's own: worth compressing, and of a type that only `gzip_mime_types` names.
#ifndef XPS_EXAMPLE_H
#define XPS_EXAMPLE_H

/* Handler number 01 of a table that says much the same in each line. */
int xps_example_handler_01(struct xps_connection_s *connection, const char *message);
/* Handler number 02 of a table that says much the same in each line. */
int xps_example_handler_02(struct xps_connection_s *connection, const char *message);
/* Handler number 03 of a table that says much the same in each line. */
int xps_example_handler_03(struct xps_connection_s *connection, const char *message);
/* Handler number 04 of a table that says much the same in each line. */
int xps_example_handler_04(struct xps_connection_s *connection, const char *message);
/* Handler number 05 of a table that says much the same in each line. */
int xps_example_handler_05(struct xps_connection_s *connection, const char *message);
/* Handler number 06 of a table that says much the same in each line. */
int xps_example_handler_06(struct xps_connection_s *connection, const char *message);
/* Handler number 07 of a table that says much the same in each line. */
int xps_example_handler_07(struct xps_connection_s *connection, const char *message);
/* Handler number 08 of a table that says much the same in each line. */
int xps_example_handler_08(struct xps_connection_s *connection, const char *message);
/* Handler number 09 of a table that says much the same in each line. */
int xps_example_handler_09(struct xps_connection_s *connection, const char *message);
/* Handler number 10 of a table that says much the same in each line. */
int xps_example_handler_10(struct xps_connection_s *connection, const char *message);
/* Handler number 11 of a table that says much the same in each line. */
int xps_example_handler_11(struct xps_connection_s *connection, const char *message);
/* Handler number 12 of a table that says much the same in each line. */
int xps_example_handler_12(struct xps_connection_s *connection, const char *message);
/* Handler number 13 of a table that says much the same in each line. */
int xps_example_handler_13(struct xps_connection_s *connection, const char *message);
/* Handler number 14 of a table that says much the same in each line. */
int xps_example_handler_14(struct xps_connection_s *connection, const char *message);
/* Handler number 15 of a table that says much the same in each line. */
int xps_example_handler_15(struct xps_connection_s *connection, const char *message);
/* Handler number 16 of a table that says much the same in each line. */
int xps_example_handler_16(struct xps_connection_s *connection, const char *message);
/* Handler number 17 of a table that says much the same in each line. */
int xps_example_handler_17(struct xps_connection_s *connection, const char *message);
/* Handler number 18 of a table that says much the same in each line. */
int xps_example_handler_18(struct xps_connection_s *connection, const char *message);
/* Handler number 19 of a table that says much the same in each line. */
int xps_example_handler_19(struct xps_connection_s *connection, const char *message);
/* Handler number 20 of a table that says much the same in each line. */
int xps_example_handler_20(struct xps_connection_s *connection, const char *message);
/* Handler number 21 of a table that says much the same in each line. */
int xps_example_handler_21(struct xps_connection_s *connection, const char *message);
/* Handler number 22 of a table that says much the same in each line. */
int xps_example_handler_22(struct xps_connection_s *connection, const char *message);
/* Handler number 23 of a table that says much the same in each line. */
int xps_example_handler_23(struct xps_connection_s *connection, const char *message);
/* Handler number 24 of a table that says much the same in each line. */
int xps_example_handler_24(struct xps_connection_s *connection, const char *message);
/* Handler number 25 of a table that says much the same in each line. */
int xps_example_handler_25(struct xps_connection_s *connection, const char *message);
/* Handler number 26 of a table that says much the same in each line. */
int xps_example_handler_26(struct xps_connection_s *connection, const char *message);
/* Handler number 27 of a table that says much the same in each line. */
int xps_example_handler_27(struct xps_connection_s *connection, const char *message);
/* Handler number 28 of a table that says much the same in each line. */
int xps_example_handler_28(struct xps_connection_s *connection, const char *message);
/* Handler number 29 of a table that says much the same in each line. */
int xps_example_handler_29(struct xps_connection_s *connection, const char *message);
/* Handler number 30 of a table that says much the same in each line. */
int xps_example_handler_30(struct xps_connection_s *connection, const char *message);
/* Handler number 31 of a table that says much the same in each line. */
int xps_example_handler_31(struct xps_connection_s *connection, const char *message);
/* Handler number 32 of a table that says much the same in each line. */
int xps_example_handler_32(struct xps_connection_s *connection, const char *message);
/* Handler number 33 of a table that says much the same in each line. */
int xps_example_handler_33(struct xps_connection_s *connection, const char *message);
/* Handler number 34 of a table that says much the same in each line. */
int xps_example_handler_34(struct xps_connection_s *connection, const char *message);
/* Handler number 35 of a table that says much the same in each line. */
int xps_example_handler_35(struct xps_connection_s *connection, const char *message);
/* Handler number 36 of a table that says much the same in each line. */
int xps_example_handler_36(struct xps_connection_s *connection, const char *message);
/* Handler number 37 of a table that says much the same in each line. */
int xps_example_handler_37(struct xps_connection_s *connection, const char *message);
/* Handler number 38 of a table that says much the same in each line. */
int xps_example_handler_38(struct xps_connection_s *connection, const char *message);
/* Handler number 39 of a table that says much the same in each line. */
int xps_example_handler_39(struct xps_connection_s *connection, const char *message);
/* Handler number 40 of a table that says much the same in each line. */
int xps_example_handler_40(struct xps_connection_s *connection, const char *message);

#endif
